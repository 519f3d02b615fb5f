// A driver's library without a card, for tests: memory is the host's, copies are done at once, kernels are noted and not run.
// What it is asked is checked as a driver would check it. FAKE_ variables say what is wrong with it.
//
//   FAKE_VERSION=12040    the version of CUDA that it is for        FAKE_INIT=100     what cuInit says
//   FAKE_CARDS=1          how many cards there are                  FAKE_CAPABILITY=90
//   FAKE_MEMORY=1048576   bytes of a card's memory                  FAKE_CONTEXT=2    what making a context says
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_CONTEXT = 201, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700 };
typedef int CUresult;

static long setting(const char *name, long usual) {
    const char *text = getenv(name);
    return text ? atol(text) : usual;
}

static int begun, failing;
static _Thread_local int current;
static int retained;
static size_t used;
// What tests look at: kernels launched, and the parameters of the last one; objects that are alive.
static int launched, alive, capturing, captured, replayed;
static unsigned char last_params[512];
static size_t last_size;

EXPORT int fake_launched(void) { return launched; }
EXPORT int fake_alive(void) { return alive; }
EXPORT int fake_retained(void) { return retained; }
EXPORT int fake_replayed(void) { return replayed; }
EXPORT size_t fake_params(unsigned char *into) {
    memcpy(into, last_params, last_size);
    return last_size;
}
// From now on every call says this: an error that a context does not recover from.
EXPORT void fake_fail(int code) { failing = code; }

// A call in a context.
#define IN_CONTEXT                     \
    if (failing) return failing;       \
    if (!current) return NO_CONTEXT;

EXPORT CUresult cuDriverGetVersion(int *version) { return *version = setting("FAKE_VERSION", 13000), OK; }
EXPORT CUresult cuInit(unsigned flags) { return flags ? INVALID_VALUE : (begun = 1, setting("FAKE_INIT", OK)); }
EXPORT CUresult cuDeviceGetCount(int *count) { return begun ? (*count = setting("FAKE_CARDS", 1), OK) : 3; }
EXPORT CUresult cuDeviceGet(int *device, int ordinal) {
    if (ordinal < 0 || ordinal >= setting("FAKE_CARDS", 1)) return 101;
    return *device = ordinal + 40, OK;
}
EXPORT CUresult cuDeviceGetName(char *name, int len, int device) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return device < 40 ? 101 : (snprintf(name, len, "Fake %d of %s", device - 40, visible ? visible : "all"), OK);
}
EXPORT CUresult cuDeviceGetPCIBusId(char *id, int len, int device) { return device < 40 ? 101 : (snprintf(id, len, "0000:%02X:00.0", device), OK); }
EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (device < 40) return 101;
    switch (attribute) {
        case 75: return *value = setting("FAKE_CAPABILITY", 90) / 10, OK;
        case 76: return *value = setting("FAKE_CAPABILITY", 90) % 10, OK;
        case 16: return *value = 132, OK;
        case 97: return *value = 227 << 10, OK;
        default: return INVALID_VALUE;
    }
}
EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) { return device < 40 ? 101 : (*bytes = setting("FAKE_MEMORY", 1 << 20), OK); }
EXPORT CUresult cuDevicePrimaryCtxRetain(void **context, int device) {
    if (device < 40) return 101;
    int code = setting("FAKE_CONTEXT", OK);
    if (code == OK) retained++, *context = &begun;
    return code;
}
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(int device) { return device < 40 ? 101 : (retained--, OK); }
EXPORT CUresult cuCtxSetCurrent(void *context) { return failing ? failing : context == &begun ? (current = 1, OK) : NO_CONTEXT; }
EXPORT CUresult cuGetErrorString(CUresult error, const char **text) {
    if (error == 9999) return INVALID_VALUE;
    return *text = error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : "some error", OK;
}

EXPORT CUresult cuModuleLoadData(void **module, const void *image) {
    IN_CONTEXT
    if (memcmp(image, "\x7f" "ELF", 4)) return 200;
    return alive++, *module = strdup((const char *)image + 4), OK;
}
EXPORT CUresult cuModuleUnload(void *module) { return alive--, free(module), OK; }
// An image names its only kernel behind the mark of its kind.
EXPORT CUresult cuModuleGetFunction(void **function, void *module, const char *name) {
    IN_CONTEXT
    return strcmp(module, name) ? NOT_FOUND : (*function = module, OK);
}
EXPORT CUresult cuFuncSetAttribute(void *function, int attribute, int value) {
    IN_CONTEXT
    return function && attribute == 8 && value == 227 << 10 ? OK : INVALID_VALUE;
}

struct block { size_t bytes; };
EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    IN_CONTEXT
    *total = setting("FAKE_MEMORY", 1 << 20);
    return *free_bytes = *total - used, OK;
}
EXPORT CUresult cuMemAlloc_v2(uint64_t *at, size_t bytes) {
    IN_CONTEXT
    if (!bytes) return INVALID_VALUE;
    if (used + bytes > (size_t)setting("FAKE_MEMORY", 1 << 20)) return OUT_OF_MEMORY;
    unsigned char *memory = aligned_alloc(256, (bytes + 511) / 256 * 256);
    ((struct block *)memory)->bytes = bytes;
    memset(memory + 256, 0xff, bytes);
    return used += bytes, alive++, *at = (uint64_t)memory + 256, OK;
}
EXPORT CUresult cuMemFree_v2(uint64_t at) {
    IN_CONTEXT
    unsigned char *memory = (unsigned char *)at - 256;
    return used -= ((struct block *)memory)->bytes, alive--, free(memory), OK;
}
EXPORT CUresult cuMemHostAlloc(void **at, size_t bytes, unsigned flags) {
    IN_CONTEXT
    if (flags != 1) return INVALID_VALUE;
    return alive++, *at = malloc(bytes), OK;
}
EXPORT CUresult cuMemFreeHost(void *at) { return alive--, free(at), OK; }

EXPORT CUresult cuStreamCreate(void **stream, unsigned flags) {
    IN_CONTEXT
    return flags == 1 ? (alive++, *stream = malloc(1), OK) : INVALID_VALUE;
}
EXPORT CUresult cuStreamDestroy_v2(void *stream) { return alive--, free(stream), OK; }
EXPORT CUresult cuStreamSynchronize(void *stream) {
    IN_CONTEXT
    return stream && !capturing ? OK : INVALID_VALUE;
}
EXPORT CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    IN_CONTEXT
    return stream && bytes && !capturing ? (memcpy((void *)to, from, bytes), OK) : INVALID_VALUE;
}
EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    IN_CONTEXT
    return stream && bytes && !capturing ? (memcpy(to, (void *)from, bytes), OK) : INVALID_VALUE;
}
EXPORT CUresult cuMemsetD8Async(uint64_t at, unsigned char value, size_t bytes, void *stream) {
    IN_CONTEXT
    if (!stream || !bytes) return INVALID_VALUE;
    return capturing ? OK : (memset((void *)at, value, bytes), OK);
}
EXPORT CUresult cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
                               unsigned shared, void *stream, void **params, void **extra) {
    IN_CONTEXT
    if (!function || !stream || params || !extra || !(x && y && z && bx) || by != 1 || bz != 1 || shared > 227 << 10) return INVALID_VALUE;
    if (extra[0] != (void *)1 || extra[2] != (void *)2 || extra[4] != 0) return INVALID_VALUE;
    if (capturing) return captured++, OK;
    last_size = *(size_t *)extra[3];
    memcpy(last_params, extra[1], last_size);
    return launched++, OK;
}

// An event holds the number of its last record, 0 before.
static long records;
EXPORT CUresult cuEventCreate(void **event, unsigned flags) {
    IN_CONTEXT
    return flags ? INVALID_VALUE : (alive++, *event = calloc(1, sizeof(long)), OK);
}
EXPORT CUresult cuEventDestroy_v2(void *event) { return alive--, free(event), OK; }
EXPORT CUresult cuEventRecord(void *event, void *stream) {
    IN_CONTEXT
    return stream ? (*(long *)event = ++records, OK) : INVALID_VALUE;
}
EXPORT CUresult cuEventSynchronize(void *event) {
    IN_CONTEXT
    return event ? OK : INVALID_VALUE;
}
// Of those that were recorded, the last one is not done until another is.
EXPORT CUresult cuEventQuery(void *event) {
    IN_CONTEXT
    return *(long *)event && *(long *)event == records ? NOT_READY : OK;
}
EXPORT CUresult cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    IN_CONTEXT
    return stream && event && !flags ? OK : INVALID_VALUE;
}
EXPORT CUresult cuEventElapsedTime(float *milliseconds, void *earlier, void *later) {
    IN_CONTEXT
    return *milliseconds = (float)(*(long *)later - *(long *)earlier), OK;
}

EXPORT CUresult cuStreamBeginCapture_v2(void *stream, int mode) {
    IN_CONTEXT
    return stream && mode == 2 && !capturing ? (capturing = 1, captured = 0, OK) : INVALID_VALUE;
}
EXPORT CUresult cuStreamEndCapture(void *stream, void **graph) {
    IN_CONTEXT
    if (!stream || !capturing) return INVALID_VALUE;
    int *made = malloc(sizeof(int));
    return *made = captured, capturing = 0, alive++, *graph = made, OK;
}
EXPORT CUresult cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) {
    IN_CONTEXT
    int *made = malloc(sizeof(int));
    return flags ? INVALID_VALUE : (*made = *(int *)graph, alive++, *exec = made, OK);
}
EXPORT CUresult cuGraphDestroy(void *graph) { return alive--, free(graph), OK; }
EXPORT CUresult cuGraphExecDestroy(void *exec) { return alive--, free(exec), OK; }
EXPORT CUresult cuGraphUpload(void *exec, void *stream) {
    IN_CONTEXT
    return exec && stream ? OK : INVALID_VALUE;
}
EXPORT CUresult cuGraphLaunch(void *exec, void *stream) {
    IN_CONTEXT
    return stream ? (replayed += *(int *)exec, OK) : INVALID_VALUE;
}

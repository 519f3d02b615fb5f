// bf16 and f16, to the bit as cvt.rn of PTX: to the nearest, ties to even, a NaN as 0x7fff.
#pragma once

inline float to_f32(bf16 x) { return bits_as<float>(static_cast<uint32_t>(x.bits) << 16); }

inline float to_f32(f16 x) {
    uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
    uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
    if (magnitude >= 0x0f800000) {
        return bits_as<float>(sign | 0x7f800000 | magnitude);
    }
    // The exponent's bias differs by 112, and the product is exact for subnormal values too.
    float value = bits_as<float>(magnitude) * 0x1p112f;
    return bits_as<float>(sign | bits_as<uint32_t>(value));
}

template <class T>
inline T from_f32(float x);

template <>
inline bf16 from_f32<bf16>(float x) {
    if (x != x) {
        return bf16{0x7fff};
    }
    uint32_t bits = bits_as<uint32_t>(x);
    return bf16{static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

template <>
inline f16 from_f32<f16>(float x) {
    if (x != x) {
        return f16{0x7fff};
    }
    uint32_t bits = bits_as<uint32_t>(x);
    uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x47800000) {
        // From 65536 on.
        return f16{static_cast<uint16_t>(sign | 0x7c00)};
    }
    if (magnitude < 0x38800000) {
        // Below the smallest normal value: beside 0.5 a float's last bit is f16's last one, so that the sum rounds
        // for us.
        uint32_t sum = bits_as<uint32_t>(bits_as<float>(magnitude) + 0.5f);
        return f16{static_cast<uint16_t>(sign | (sum - bits_as<uint32_t>(0.5f)))};
    }
    uint32_t rounded = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    return f16{static_cast<uint16_t>(sign | rounded)};
}

template <class T>
inline uint32_t pack2(float a, float b) {
    return from_f32<T>(a).bits | static_cast<uint32_t>(from_f32<T>(b).bits) << 16;
}

"""Settings of a deployment: read from the environment, checked together, described in README.md."""

import dataclasses
import re

import pytest
from conftest import APPS
from defrost_modal.settings import FOLLOWING, SECRET, Settings, SettingsError, known_to_binaries


def deployed(**environ):
    return Settings.deployed({f"DEPLOY_{name.upper()}": value for name, value in environ.items()}, binary="embed", cpu=2.0)


def test_environment_beats_the_app_beats_the_default():
    assert (deployed().cpu, deployed().memory, deployed().name) == (2.0, 4096, "embed")
    chosen = deployed(cpu="1.5", memory="1024", name="mine", bake="false", secrets="a, b,", model="a/b.snap")
    assert (chosen.cpu, chosen.memory, chosen.name, chosen.bake) == (1.5, 1024, "mine", False)
    assert chosen.secrets == ("a", "b")
    assert deployed(cpu="").cpu == 2.0


def test_all_mistakes_are_told_at_once():
    with pytest.raises(SettingsError) as error:
        deployed(cpu="many", bake="yes", scaledwn_window="3")
    said = str(error.value)
    assert "DEPLOY_CPU: expected a number, found 'many'" in said
    assert "DEPLOY_BAKE: expected true or false, found 'yes'" in said
    assert "DEPLOY_SCALEDWN_WINDOW is no setting; there are DEPLOY_" in said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("form", "asgi", "expected server or web_server, found 'asgi'"),
        ("cpu", "0", "expected more than 0"),
        ("min_containers", "-1", "expected 0 or more"),
        ("min_containers", "21", "at most DEPLOY_MAX_CONTAINERS, which is 20"),
        ("max_concurrency", "5", "DEPLOY_TARGET_CONCURRENCY: expected at most the container's limit, which is 5"),
        ("model", "/etc/passwd", "expected the path of a file in the volume"),
        ("model", "../x.snap", "expected a path that stays in the volume"),
        ("unauthenticated", "true", "expected false without DEPLOY_SECRETS=NAME, a Modal secret with API_KEYS"),
        ("add_python", "3.12", "expected nothing without DEPLOY_BASE_IMAGE"),
        ("gpu_snapshot", "true", "expected false without DEPLOY_GPU"),
        ("gpu", "T4", "expected one of L4, A10, A10G, L40S, A100"),
        ("gpu", "B200", "for which there are kernels, found 'B200'"),
        ("gpu", "H100:2", "one card, for which there are kernels, found 'H100:2'"),
        ("settings", "MAX_LENGTH", "expected NAME=VALUE, found 'MAX_LENGTH'"),
        ("settings", "MAX_LENGHT=5", "the binaries know no MAX_LENGHT"),
        ("settings", "API_KEYS=secret", "put it into a Modal secret"),
        *(("settings", f"{name}=1", f"{name} follows from the settings of the app") for name in FOLLOWING),
    ],
)
def test_a_mistake_says_what_was_expected(name, value, said):
    with pytest.raises(SettingsError, match=re.escape(said)):
        deployed(**{name: value})


def test_a_secret_is_not_repeated_in_its_refusal():
    with pytest.raises(SettingsError) as error:
        deployed(settings="API_KEYS=hush-hush")
    assert "hush" not in str(error.value)


def test_values_with_spaces_are_quoted_as_in_a_shell():
    assert deployed(settings="SERVED_MODEL_NAME='a b' MAX_QUEUE=9").binary_settings == {
        "SERVED_MODEL_NAME": "a b",
        "MAX_QUEUE": "9",
    }


def test_names_of_the_binaries_are_read_from_the_table():
    known = known_to_binaries()
    assert known > {*FOLLOWING, "API_KEYS", "VERIFY", "NUM_THREADS"}
    assert "API_KEY" in SECRET, "an alias, which the table leaves out"
    assert known_to_binaries(APPS / "nothing") == frozenset()


def test_the_readme_has_every_setting():
    def shown(default):
        return "" if default in ("", ()) else f"`{str(default).lower() if isinstance(default, bool) else default}`"

    rows = [
        f"| `DEPLOY_{field.name.upper()}` | {shown(field.default)} | {field.metadata['meaning']} |"
        for field in dataclasses.fields(Settings)
        if field.name != "binary"
    ]
    table = (APPS / "README.md").read_text().partition("<!-- settings -->\n")[2].partition("<!-- /settings -->")[0]
    assert table.splitlines() == rows

"""
The configuration: every fault at once with its line, the environment over the file, and nothing that is not there yet.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pacs.config import Configuration, ConfigurationError, load_configuration
from pacs.config.availability import NOT_IN_FORCE
from pacs.config.documents import documents
from pacs.security.passwords import hash_password

REPOSITORY = Path(__file__).parents[3]


def faults(tmp_path: Path, text: str, **environment: str) -> list[str]:
    path = tmp_path / "pacs.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load_configuration(path, environment)
    return [str(fault).removeprefix(f"{path}:") for fault in error.value.faults]


def loaded(tmp_path: Path, text: str, **environment: str) -> Configuration:
    path = tmp_path / "pacs.yaml"
    path.write_text(text)
    return load_configuration(path, environment).configuration


def test_the_documents_are_what_the_model_says() -> None:
    for name, text in documents().items():
        assert (REPOSITORY / "config" / name).read_text() == text, "run 'make schema'"


@pytest.mark.parametrize("name", ["pacs_config.yaml", "pacs_config.example.yaml"])
def test_the_documents_hold_the_defaults(name: str) -> None:
    assert load_configuration(REPOSITORY / "config" / name, {}).configuration == Configuration()


def test_all_faults_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = "server:\n  prot: 1\n  port: x\nstorage:\n  naming_scheme: other\nsevrer: {}\n"
    lines = faults(tmp_path, text)
    assert lines[0] == "2: server.prot: unknown key, did you mean 'server.port'?"
    assert lines[1].startswith("3: server.port: ")
    assert lines[2].startswith("5: storage.naming_scheme: ")
    assert lines[3] == "6: sevrer: unknown key, did you mean 'server'?"


def test_what_has_no_value_and_what_is_there_twice_hide_no_other_fault(tmp_path: Path) -> None:
    text = (
        "server:\n  ae_title: ${NO_SUCH}\n  port: 1\n  port: 99999\n  prot: 1\n"
        "  remote_nodes:\n    - {ae_title: A,\n       host: '${NO_SUCH}',\n       port: 99999}\n"
        "storage:\n  min_free_bytes: 2026-99-99\n  naming_scheme: other\nrest_api: {max_request_bytes: 2048}\n"
    )
    lines = faults(tmp_path, text)
    assert [line.split(" ")[:2] for line in lines] == [
        ["2:", "server.ae_title:"],
        ["4:", "server.port:"],
        ["4:", "server.port:"],
        ["5:", "server.prot:"],
        ["8:", "server.remote_nodes[0].host:"],
        ["9:", "server.remote_nodes[0].port:"],
        ["11:", "storage.min_free_bytes:"],
        ["12:", "storage.naming_scheme:"],
        ["13:", "rest_api.max_request_bytes:"],
    ]


@pytest.mark.parametrize(
    "key", ["server.port", "server.tls.port", "server.idle_timeout_seconds", "storage.min_free_bytes"]
)
def test_yes_and_no_are_no_numbers(tmp_path: Path, key: str) -> None:
    text = "{" + ": {".join(key.split(".")) + ": yes" + "}" * (key.count(".") + 1) + "\n"
    assert faults(tmp_path, text) == [f"1: {key}: give a number, not yes or no"]
    name = "PACS_" + key.replace(".", "__").upper()
    (fault,) = faults(tmp_path, "", **{name: "off"})
    assert fault == f"environment variable {name}: {key}: give a number, not yes or no"


def test_yes_is_no_port_of_a_node(tmp_path: Path) -> None:
    text = "server:\n  remote_nodes:\n    - {ae_title: A, host: h, port: yes}\n"
    assert faults(tmp_path, text) == ["3: server.remote_nodes[0].port: give a number, not yes or no"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "  remote_nodes:\n    - {ae_title: A, host: h, port: 1}\n    - {ae_title: 'A ', host: h, port: 2}\n",
            "2: server.remote_nodes: nodes 0 and 1 have the same AE title, A",
        ),
        ("  remote_nodes:\n    - {ae_title: A, host: '', port: 1}\n", "3: server.remote_nodes[0].host: "),
        ("  remote_nodes:\n    - {ae_title: A, host: a b, port: 1}\n", "3: server.remote_nodes[0].host: "),
        ("  remote_nodes:\n    - {ae_title: A, host: h, port: 0}\n", "3: server.remote_nodes[0].port: "),
        ("  default_character_set: latin1\n", "2: server.default_character_set: no defined terms"),
        ("  default_character_set: ISO 2022 IR 999\n", "2: server.default_character_set: no defined terms"),
        ("  default_character_set: ISO_IR 192\\ISO 2022 IR 87\n", "2: server.default_character_set: no defined terms"),
        ("rest_api: {public_url: pacs.example.org}\n", "2: rest_api.public_url: give an http:// or https:// URL"),
        (
            "rest_api: {public_url: 'ftp://pacs.example.org'}\n",
            "2: rest_api.public_url: give an http:// or https:// URL",
        ),
        ("rest_api: {public_url: 'https://x:99999'}\n", "2: rest_api.public_url: port out of range"),
        ("rest_api: {public_url: 'https://x/?a=b'}\n", "2: rest_api.public_url: a base URL has no user, query"),
        ("logging: {audit_syslog: {host: '', port: 514}}\n", "2: logging.audit_syslog.host: "),
        ("logging: {audit_syslog: {host: h, port: 0}}\n", "2: logging.audit_syslog.port: "),
    ],
)
def test_a_value_that_nothing_can_be_done_with_is_a_fault(tmp_path: Path, text: str, expected: str) -> None:
    (fault,) = faults(tmp_path, f"server:\n{text}")
    assert fault.startswith(expected)


@pytest.mark.parametrize(
    "value",
    ["ISO_IR 100", "ISO_IR 192", "GB18030", "ISO 2022 IR 6", "\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87"],
)
def test_each_defined_term_may_be_the_default_character_set(tmp_path: Path, value: str) -> None:
    assert loaded(tmp_path, f"server: {{default_character_set: '{value}'}}\n").server.default_character_set == value


@pytest.mark.parametrize("value", ["https://pacs.example.org/base/", "http://[::1]:8080", ""])
def test_a_base_of_urls_may_have_a_port_and_a_path(tmp_path: Path, value: str) -> None:
    assert loaded(tmp_path, f"rest_api: {{public_url: '{value}'}}\n").rest_api.public_url == value


def test_what_the_environment_overrides_has_the_fault_of_its_own_value(tmp_path: Path) -> None:
    lines = faults(tmp_path, "server: {port: '${NO_SUCH}'}\n", PACS_SERVER__PORT="99999")
    assert len(lines) == 2
    assert lines[0].startswith("1: server.port: the environment has no NO_SUCH")
    assert lines[1].startswith("environment variable PACS_SERVER__PORT: server.port: ")


def test_a_fault_of_several_keys_is_told_beside_those_of_others(tmp_path: Path) -> None:
    text = "server:\n  prot: 1\n  port: 2\n  tls: {enabled: true, port: 2}\n"
    assert [line.partition(" ")[0] for line in faults(tmp_path, text)] == ["1:", "2:"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "1: the top level must be a mapping of sections"),
        ("server: {port: 1, port: 2}\n", "1: server.port: is there twice"),
        ("server:\n\tport: 1\n", "2: no YAML: "),
        ("a: &a [x]\nserver: [*a, *b]\n", "2: no YAML: "),
        ("server: {ae_title: '${NOT_SET}'}\n", "1: server.ae_title: the environment has no NOT_SET"),
        ("server: {ae_title: 12345678901234567}\n", "1: server.ae_title: "),
    ],
)
def test_a_broken_file_is_a_fault_and_no_traceback(tmp_path: Path, text: str, expected: str) -> None:
    assert faults(tmp_path, text)[0].startswith(expected)


def test_nested_aliases_do_not_explode(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "too many values" in faults(tmp_path, "\n".join(levels) + "\n")[0]


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    configuration = loaded(
        tmp_path,
        "server: {port: 1, ae_title: '${TITLE:-FALLBACK}'}\n",
        PACS_SERVER__PORT="11113",
        PACS_REST_API__ENABLED="off",
    )
    assert configuration.server.port == 11113
    assert configuration.server.ae_title == "FALLBACK"
    assert configuration.rest_api.enabled is False


def test_spelling_variants_are_accepted(tmp_path: Path) -> None:
    text = "storage: {naming_scheme: hierarchical}\nserver: {accept_any_called_ae: yes}\n"
    configuration = loaded(tmp_path, text)
    assert configuration.storage.naming_scheme == "uid_hierarchical"
    assert configuration.server.accept_any_called_ae is True


@pytest.mark.parametrize(
    "text",
    [
        "storage: {objects: {backend: s3}}",
        "storage: {database: {url: 'postgresql://x'}}",
    ],
)
def test_what_is_not_available_yet_is_refused_never_ignored(tmp_path: Path, text: str) -> None:
    assert "not available yet" in faults(tmp_path, text)[0]


def test_each_default_that_is_not_in_force_gets_one_warning() -> None:
    warnings = load_configuration(None, {}).warnings
    assert len(warnings) == len(set(warnings)) == len(NOT_IN_FORCE)


def test_secrets_come_from_files_and_are_masked(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://user:password@host/db\n")
    secret.chmod(0o600)
    (line,) = faults(tmp_path, f"storage:\n  database:\n    url_file: {secret}\n")
    assert line == "3: storage.database.url: not available yet; remove it to use the default"
    assert "password" not in line
    assert "no such file" in faults(tmp_path, "storage: {database: {url_file: /nowhere}}\n")[0]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (
            "security:\n  access_control:\n    grants: [{role: viewer, addresses: [10.0.0.0/40]}]",
            "grants[0].addresses[0]",
        ),
        (
            "security:\n  access_control:\n    users: [{name: a, role: viewer, password_hash: x}]",
            "users[0].password_hash",
        ),
        ("security:\n  access_control:\n    grants: [{role: boss}]", "grants[0].role"),
    ],
)
def test_a_grant_or_user_that_can_not_be_used_is_a_fault(tmp_path: Path, text: str, key: str) -> None:
    assert faults(tmp_path, text)[0].startswith(f"3: security.access_control.{key}: ")


def test_an_open_archive_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "pacs.yaml"
    path.write_text("server: {interface: 0.0.0.0}\n")
    warnings = "\n".join(load_configuration(path, {}).warnings)
    assert "the built-in grants are in force" in warnings
    assert "set security.allowed_ae_titles, or mutual TLS" in warnings
    path.write_text(
        "server: {interface: 0.0.0.0}\n"
        "security: {allowed_ae_titles: [A], access_control: {grants: [{role: viewer, ae_titles: [A]}]}}\n"
    )
    warnings = "\n".join(load_configuration(path, {}).warnings)
    assert "grants" not in warnings
    assert "allowed_ae_titles" not in warnings


def test_http_in_the_clear_beyond_this_machine_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "pacs.yaml"
    path.write_text("rest_api: {interface: 0.0.0.0, authentication: {enabled: false}}\n")
    warnings = "\n".join(load_configuration(path, {}).warnings)
    assert "everyone there is an administrator" in warnings
    assert "HTTP is not encrypted" in warnings
    path.write_text("rest_api: {interface: 0.0.0.0, trusted_proxies: [10.0.0.1]}\n")
    assert not load_configuration(path, {}).warnings


@pytest.mark.parametrize(
    ("oidc", "expected"),
    [
        ("{issuer: https://id.example.org}", "issuer needs an audience"),
        ("{issuer: http://id.example.org, audience: pacs}", "no https:// URL"),
        ("{issuer: id.example.org, audience: pacs}", "no https:// URL"),
    ],
)
def test_an_identity_provider_that_can_not_be_trusted_is_a_fault(tmp_path: Path, oidc: str, expected: str) -> None:
    (line,) = faults(tmp_path, f"rest_api:\n  authentication:\n    oidc: {oidc}\n")
    assert line.startswith("3: rest_api.authentication.oidc")
    assert expected in line


def test_the_configuration_is_read_without_what_only_a_server_needs() -> None:
    code = "import sys, pacs.command; print({'twisted', 'sqlalchemy', 'cryptography', 'pydicom'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my-section: 1\n", "1: my-section: unknown key"),
        ("1: x\n", "1: 1: unknown key"),
        (
            "server:\n  max-associations: 5\n",
            "2: server.max-associations: unknown key, did you mean 'server.max_associations'?",
        ),
    ],
)
def test_an_unknown_key_that_is_no_identifier_is_named(tmp_path: Path, text: str, expected: str) -> None:
    assert faults(tmp_path, text) == [expected]


def test_a_variable_that_names_no_key_is_named(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "", PACS_SERVER__="1")
    assert fault.startswith("environment variable PACS_SERVER__: server.: unknown key")
    (fault,) = faults(tmp_path, "", PACS_SEVRER__PORT="1")
    assert fault == "environment variable PACS_SEVRER__PORT: sevrer: unknown key, did you mean 'server'?"
    (fault,) = faults(tmp_path, "", PACS___X="1")
    assert fault == "environment variable PACS___X: unknown key"


@pytest.mark.parametrize("title", ["12345", "ON", "2026-11-30", "2026-13-45", "[", "1_0", "'12345'", "A: B", "NO"])
def test_text_of_the_environment_stays_text(tmp_path: Path, title: str) -> None:
    expected = title.strip("'")
    assert loaded(tmp_path, "", PACS_SERVER__AE_TITLE=title).server.ae_title == expected
    assert loaded(tmp_path, "server:\n  ae_title: ${T}\n", T=title).server.ae_title == expected
    nodes = loaded(tmp_path, "security:\n  allowed_ae_titles:\n    - ${T}\n", T=title)
    assert nodes.security.allowed_ae_titles == (expected,)


@pytest.mark.parametrize("value", ["2026-13-45", "[", "[" * 5000, "9" * 5000, "!!timestamp x", "!!bool x"])
def test_a_value_of_the_environment_that_is_none_is_a_fault_and_no_traceback(tmp_path: Path, value: str) -> None:
    (fault,) = faults(tmp_path, "", PACS_SERVER__PORT=value)
    assert fault.startswith("environment variable PACS_SERVER__PORT: server.port: ")
    (fault,) = faults(tmp_path, "server:\n  port: ${P}\n", P=value)
    assert fault.startswith("2: server.port: ")


@pytest.mark.parametrize("value", ["!!timestamp x", "!!bool x", "!!int ''", "2026-13-45"])
def test_a_tag_that_does_not_fit_is_a_fault_and_no_traceback(tmp_path: Path, value: str) -> None:
    assert faults(tmp_path, f"server:\n  port: {value}\n")[0].startswith("2: server.port: no value: ")


def test_the_password_hash_of_a_user_comes_from_a_file(tmp_path: Path) -> None:
    known = hash_password("correct horse")
    secret = tmp_path / "hash"
    secret.write_text(known + "\n")
    secret.chmod(0o600)
    text = "security:\n  access_control:\n    users:\n      - {name: a, role: viewer, password_hash_file: %s}\n"
    (user,) = loaded(tmp_path, text % secret).security.access_control.users
    assert user.password_hash.get_secret_value() == known
    assert any("password_hash_file: no such file" in fault for fault in faults(tmp_path, text % "/nowhere"))


def test_a_section_whose_keys_are_all_commented_out_has_its_defaults(tmp_path: Path) -> None:
    text = "server:\n  # port: 1\nstorage:\n  database:\n    # path: x\nrest_api: null\n"
    assert loaded(tmp_path, text) == Configuration()

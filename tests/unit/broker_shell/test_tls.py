"""Certificates: those that are trusted, the names they prove, their reloading, and the binding of a connection."""

from __future__ import annotations

import os
import ssl
import stat
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from tests.certificates import CLIENT, DAY, HOUR, SERVER, Authority, Files, write

from pubsubd_broker.trust.channel import NoBinding, binding_of, names_of
from pubsubd_broker.trust.tls import (
    HandshakeFailed,
    Reloaded,
    Tls,
    TlsError,
    Unchanged,
    explain,
)


def tls_of(files: Files) -> Tls:
    return Tls(files.cert, files.key, files.ca)


def shake_hands(
    accepting: ssl.SSLContext, dialling: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """The accepting and the dialling end of a connection in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = accepting.wrap_bio(to_server, to_client, server_side=True)
    client = dialling.wrap_bio(to_client, to_server, session=session)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    # Tickets may come behind the handshake.
    with pytest.raises(ssl.SSLWantReadError):
        client.read()
    return server, client


def put(source: Files, target: Files, *kinds: str) -> None:
    """The files of these kinds take the place of the target's, at the same paths."""
    for kind in kinds:
        write(getattr(target, kind), Path(getattr(source, kind)).read_bytes())


# Files that are loaded.


def test_two_brokers_of_one_authority_see_each_other_s_names(authority: Authority) -> None:
    a, b = tls_of(authority.certificate("a")), tls_of(authority.certificate("b", "bb"))
    server, client = shake_hands(a.server, b.client)
    assert names_of(server) == {"b", "bb"} == b.names
    assert names_of(client) == {"a"} == a.names
    assert server.version() == client.version() == "TLSv1.3"


def test_the_expiry_is_that_of_our_own_certificate(authority: Authority) -> None:
    tls = tls_of(authority.certificate("a", until=3 * HOUR))
    assert tls.not_after - time.time() == pytest.approx(3 * 3600, abs=60)


@pytest.mark.parametrize("missing", ["cert", "key", "ca"])
def test_a_missing_file_is_named_with_its_option(authority: Authority, missing: str) -> None:
    files = replace(authority.certificate("a"), **{missing: "/nowhere/to/be/found"})
    with pytest.raises(
        TlsError, match=f"^--tls-{missing} /nowhere/to/be/found: No such file or directory: give"
    ):
        tls_of(files)


@pytest.mark.parametrize("wrong", ["cert", "key", "ca"])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"hello", "it lacks a .*: give a PEM file with one"),
        (b"-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n", "it cannot be read: give a PEM file"),
        (b"-----BEGIN {0}-----\nAAAA\n", "it cannot be read: give a PEM file"),
    ],
    ids=["another text", "damaged", "cut off"],
)
def test_a_file_with_something_else_in_it_is_named(
    authority: Authority, wrong: str, content: bytes, complaint: str
) -> None:
    files = authority.certificate("a")
    path = getattr(files, wrong)
    write(path, content.replace(b"{0}", b"PRIVATE KEY" if wrong == "key" else b"CERTIFICATE"))
    with pytest.raises(TlsError, match=f"^--tls-{wrong} {path}: {complaint}"):
        tls_of(files)


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    files = replace(authority.certificate("a"), key=authority.certificate("a").key)
    with pytest.raises(TlsError, match=f"^--tls-key {files.key}: is not the key of {files.cert}"):
        tls_of(files)


def test_a_locked_key_is_refused_without_asking_for_its_password(
    authority: Authority,
) -> None:
    with pytest.raises(TlsError, match=r"^--tls-key .*: is locked with a password: give one"):
        tls_of(authority.certificate("a", password=b"open sesame"))


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o666])
def test_a_key_that_others_may_read_or_change_is_refused(authority: Authority, mode: int) -> None:
    files = authority.certificate("a")
    os.chmod(files.key, mode)
    with pytest.raises(TlsError, match=f"^--tls-key {files.key}: .*mode {mode:04o} lets others"):
        tls_of(files)


def test_a_key_that_its_group_may_read_is_taken(authority: Authority) -> None:
    files = authority.certificate("a")
    os.chmod(files.key, stat.S_IRUSR | stat.S_IRGRP)
    assert tls_of(files).names == {"a"}


def test_a_key_s_place_that_is_a_pipe_holds_nothing_up(
    authority: Authority, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    files = replace(authority.certificate("a"), key=str(tmp_path / "pipe"))
    with pytest.raises(TlsError, match="is not a regular file"):
        tls_of(files)


def test_a_foreign_authoritys_certificate_is_refused_before_use(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    files = replace(authority.certificate("a"), ca=other.path)
    with pytest.raises(
        TlsError,
        match=f"peers would not accept it: .*an authority in --tls-ca {other.path} has signed",
    ):
        tls_of(files)


def test_a_certificate_out_of_its_time_is_refused_with_what_to_do(authority: Authority) -> None:
    with pytest.raises(TlsError, match="certificate has expired: renew it"):
        tls_of(authority.certificate("a", since=-DAY / 2, until=-HOUR))
    with pytest.raises(TlsError, match="not yet valid: wait until it is, or set this machine's"):
        tls_of(authority.certificate("a", since=HOUR))


@pytest.mark.parametrize("usage", [SERVER, CLIENT])
def test_a_certificate_for_servers_or_clients_alone_is_refused(
    authority: Authority, usage: x509.ObjectIdentifier
) -> None:
    with pytest.raises(TlsError, match="serverAuth and clientAuth"):
        tls_of(authority.certificate("a", usages=[usage]))


def test_a_certificate_has_to_speak_for_the_node_that_shows_it(authority: Authority) -> None:
    files = authority.certificate("a", "aa")
    assert Tls(files.cert, files.key, files.ca, node="aa").names == {"a", "aa"}
    with pytest.raises(TlsError, match="it speaks for a, aa: give one with the --node name b"):
        Tls(files.cert, files.key, files.ca, node="b")


def test_a_new_certificate_of_another_node_does_not_replace_ours(
    authority: Authority,
) -> None:
    files = authority.certificate("a")
    tls = Tls(files.cert, files.key, files.ca, node="a")
    put(authority.certificate("b"), files, "cert", "key")
    assert isinstance(tls.refresh(), HandshakeFailed)
    assert tls.names == {"a"}


def test_intermediate_authorities_come_along_with_the_certificate(
    authority: Authority, tmp_path: Path
) -> None:
    between = Authority(tmp_path, "between", above=authority)
    files = replace(between.certificate("a"), ca=authority.path)
    with pytest.raises(TlsError, match="unable to get local issuer certificate"):
        tls_of(files)
    write(files.cert, Path(files.cert).read_bytes() + between.pem)
    peer = tls_of(authority.certificate("b"))
    assert names_of(shake_hands(peer.server, tls_of(files).client)[0]) == {"a"}


def test_an_intermediate_authority_can_be_the_one_that_is_trusted(
    authority: Authority, tmp_path: Path
) -> None:
    between = Authority(tmp_path, "between", above=authority)
    tls = tls_of(between.certificate("a"))
    stranger = tls_of(authority.certificate("b"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(stranger.server, tls.client)


# Certificates that get in.


def test_only_our_authority_and_only_tls_1_3_are_accepted(
    authority: Authority,
) -> None:
    tls = tls_of(authority.certificate("a"))
    for context in (tls.server, tls.client):
        assert len(context.get_ca_certs()) == 1
        assert "pubsubd test authority ca" in str(context.get_ca_certs()[0]["subject"])
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("accepts", [True, False])
def test_a_certificate_of_another_authority_is_no_certificate(
    authority: Authority, tmp_path: Path, accepts: bool
) -> None:
    ours = tls_of(authority.certificate("a"))
    theirs = tls_of(Authority(tmp_path, "other").certificate("a"))
    # The other end accepts any certificate: our end has to refuse.
    theirs.server.verify_mode = theirs.client.verify_mode = ssl.CERT_NONE
    ends = (ours.server, theirs.client) if accepts else (theirs.server, ours.client)
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        shake_hands(*ends)
    assert "its certificate is not accepted" in explain(refused.value)


def test_a_dialler_without_a_certificate_is_refused(authority: Authority) -> None:
    tls = tls_of(authority.certificate("a"))
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(authority.path)
    with pytest.raises(ssl.SSLError) as refused:
        shake_hands(tls.server, bare)
    assert explain(refused.value).startswith("it shows no certificate")


def test_no_tls_keys_are_logged_even_if_the_environment_asks(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    tls = tls_of(authority.certificate("a"))
    shake_hands(tls.server, tls.client)
    assert not keys.exists()


def test_no_connection_is_resumed(authority: Authority) -> None:
    tls = tls_of(authority.certificate("a"))
    _, client = shake_hands(tls.server, tls.client)
    session = client.session
    assert session is None or not session.has_ticket
    server, client = shake_hands(tls.server, tls.client, session)
    assert not client.session_reused
    assert not server.session_reused
    assert names_of(server) == {"a"}


def test_another_protocol_over_tls_has_no_valid_binding(
    authority: Authority,
) -> None:
    files = authority.certificate("a")
    tls, other = tls_of(files), tls_of(files)
    other.client.set_alpn_protocols(["http/1.1"])
    for end in shake_hands(tls.server, other.client):
        with pytest.raises(NoBinding, match="did not agree to speak pubsubd/1"):
            binding_of(end)


# Names.


@pytest.mark.parametrize(
    ("names", "common_name", "expected"),
    [
        (["a"], None, {"a"}),
        (["a", "a.cluster.local"], "b", {"a", "a.cluster.local"}),
        ([], "only-a-common-name", {"only-a-common-name"}),
        (["*"], "a", set()),
        (["*.cluster.local", "x*", "a"], "b", {"a"}),
        ([], "*", set()),
        ([], None, set()),
        (["a.b", "A"], None, {"a.b", "A"}),
    ],
)
def test_names_are_dns_names_or_the_common_name_without_wildcards(
    authority: Authority, names: list[str], common_name: str | None, expected: set[str]
) -> None:
    assert tls_of(authority.certificate(*names, common_name=common_name)).names == expected


def test_a_common_name_does_not_count_beside_alternative_names(
    authority: Authority,
) -> None:
    address = x509.IPAddress(ip_address("127.0.0.1"))
    mail = x509.RFC822Name("a@example.org")
    link = x509.UniformResourceIdentifier("spiffe://cluster/a")
    files = authority.certificate(others=[address, mail, link], common_name="a")
    assert tls_of(files).names == frozenset()


# Loading anew.


def test_files_that_stay_are_not_loaded_again(authority: Authority) -> None:
    tls = tls_of(authority.certificate("a"))
    server, client = tls.server, tls.client
    assert tls.refresh() == Unchanged()
    assert tls.server is server
    assert tls.client is client


def test_new_files_are_used_for_what_opens_from_then_on(authority: Authority) -> None:
    files = authority.certificate("a", until=HOUR)
    tls = tls_of(files)
    before = tls.server
    put(authority.certificate("a", "a2", until=2 * HOUR), files, "cert", "key")
    assert tls.refresh() == Reloaded(tls.not_after)
    assert tls.not_after - time.time() == pytest.approx(2 * 3600, abs=60)
    assert tls.names == {"a", "a2"}
    assert tls.server is not before
    assert names_of(shake_hands(tls.server, tls.client)[1]) == {"a", "a2"}
    assert names_of(shake_hands(before, tls.client)[1]) == {"a"}
    assert tls.refresh() == Unchanged()


def test_files_replaced_one_after_the_other_are_used_when_they_fit(authority: Authority) -> None:
    files = authority.certificate("a")
    tls = tls_of(files)
    before, new = tls.server, authority.certificate("new")
    put(new, files, "cert")
    failed = tls.refresh()
    assert isinstance(failed, HandshakeFailed)
    assert "is not the key of" in failed.reason == tls.error
    assert tls.refresh() == Unchanged(), "said once"
    assert tls.server is before
    assert tls.names == {"a"}
    put(new, files, "key")
    assert tls.refresh() == Reloaded(tls.not_after)
    assert tls.names == {"new"}
    assert tls.error is None


def test_a_mounted_secret_is_swapped_by_one_link(authority: Authority, tmp_path: Path) -> None:
    versions = []
    for number, name in enumerate(["old", "new"]):
        made = authority.certificate(name)
        folder = tmp_path / f"version-{number}"
        folder.mkdir()
        for kind in ("cert", "key", "ca"):
            write(str(folder / kind), Path(getattr(made, kind)).read_bytes())
            os.utime(folder / kind, (0, 0))
        versions.append(folder)
    data = tmp_path / "data"
    data.symlink_to(versions[0])
    tls = Tls(*(str(data / kind) for kind in ("cert", "key", "ca")))
    (tmp_path / "next").symlink_to(versions[1])
    os.replace(tmp_path / "next", data)
    assert isinstance(tls.refresh(), Reloaded)
    assert tls.names == {"new"}


def test_a_new_authority_is_taken_over_while_both_are_trusted(
    authority: Authority, tmp_path: Path
) -> None:
    files, peers = authority.certificate("a"), authority.certificate("b")
    tls, peer = tls_of(files), tls_of(peers)
    successor = Authority(tmp_path, "successor")
    write(files.ca, authority.pem + successor.pem)
    put(successor.certificate("a"), files, "cert", "key")
    assert isinstance(tls.refresh(), Reloaded)
    assert isinstance(peer.refresh(), Reloaded), "the file of authorities is one for both"
    assert names_of(shake_hands(peer.server, tls.client)[0]) == {"a"}
    assert names_of(shake_hands(tls.server, peer.client)[0]) == {"b"}
    write(files.ca, successor.pem)
    assert isinstance(tls.refresh(), Reloaded)
    assert isinstance(peer.refresh(), HandshakeFailed), (
        "its certificate is still one of the old authority"
    )
    assert peer.names == {"b"}


def test_loaded_files_stay_in_force_while_a_file_is_gone(authority: Authority) -> None:
    files = authority.certificate("a")
    tls = tls_of(files)
    content = Path(files.ca).read_bytes()
    os.unlink(files.ca)
    assert isinstance(tls.refresh(), HandshakeFailed)
    assert names_of(shake_hands(tls.server, tls.client)[0]) == {"a"}
    write(files.ca, content)
    assert isinstance(tls.refresh(), Reloaded)


def test_a_file_that_was_away_for_a_moment_is_no_failure_any_more(authority: Authority) -> None:
    files = authority.certificate("a")
    tls = tls_of(files)
    os.rename(files.cert, files.cert + ".away")
    assert isinstance(tls.refresh(), HandshakeFailed)
    os.rename(files.cert + ".away", files.cert)
    assert isinstance(tls.refresh(), Reloaded), "the very same file, as if nothing had been"
    assert tls.error is None


def test_a_file_written_over_with_as_many_bytes_is_another(authority: Authority) -> None:
    files, new = authority.certificate("a"), authority.certificate("new")
    size = 2 * os.path.getsize(files.cert)
    for made in (files, new):
        write(made.cert, Path(made.cert).read_bytes().ljust(size, b"\n"))
    for path in (files.cert, files.key):
        os.utime(path, (0, 0))
    tls = tls_of(files)
    Path(files.cert).write_bytes(Path(new.cert).read_bytes())
    Path(files.key).write_bytes(Path(new.key).read_bytes())
    assert isinstance(tls.refresh(), Reloaded)
    assert tls.names == {"new"}


def test_another_reason_is_said_and_the_same_one_is_not(authority: Authority) -> None:
    files = authority.certificate("a")
    tls = tls_of(files)
    write(files.cert, b"nonsense")
    first = tls.refresh()
    write(files.cert, b"other nonsense")
    assert isinstance(first, HandshakeFailed)
    assert tls.refresh() == Unchanged()
    os.unlink(files.cert)
    second = tls.refresh()
    assert isinstance(second, HandshakeFailed)
    assert second != first


def test_a_failed_load_is_tried_again_though_the_files_look_the_same(authority: Authority) -> None:
    files = authority.certificate("a")
    tls = tls_of(files)
    put(authority.certificate("new"), files, "cert", "key")
    os.chmod(files.key, 0o644)
    assert isinstance(tls.refresh(), HandshakeFailed)
    os.chmod(files.key, 0o600)
    assert isinstance(tls.refresh(), Reloaded)
    assert tls.names == {"new"}


# The binding of a connection.


def test_both_ends_have_the_same_binding_and_no_two_connections_do(authority: Authority) -> None:
    a, b = tls_of(authority.certificate("a")), tls_of(authority.certificate("b"))
    bindings = set()
    for _ in range(10):
        server, client = shake_hands(a.server, b.client)
        assert binding_of(server) == binding_of(client)
        bindings.add(binding_of(server))
    assert len(bindings) == 10


def test_an_attacker_in_between_has_two_different_bindings(authority: Authority) -> None:
    """The worst case: its certificate is signed by our authority, and speaks for both names."""
    a, b = tls_of(authority.certificate("a")), tls_of(authority.certificate("b"))
    thief = tls_of(authority.certificate("a", "b"))
    towards_b, client = shake_hands(thief.server, b.client)
    server, towards_a = shake_hands(a.server, thief.client)
    assert names_of(client) >= {"a"}
    assert names_of(server) >= {"b"}
    assert binding_of(towards_b) == binding_of(client)
    assert binding_of(towards_a) == binding_of(server)
    assert binding_of(client) != binding_of(server)


def test_a_stolen_key_of_the_dialler_gives_no_binding_in_common(authority: Authority) -> None:
    files = authority.certificate("b")
    a, b, thief = tls_of(authority.certificate("a")), tls_of(files), tls_of(files)
    _, client = shake_hands(thief.server, b.client)
    server, _ = shake_hands(a.server, thief.client)
    assert binding_of(client) != binding_of(server)


def test_an_older_tls_has_no_binding_that_counts(authority: Authority) -> None:
    tls = tls_of(authority.certificate("a"))
    for context in (tls.server, tls.client):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = tls.server.wrap_bio(server, client, server_side=True)
    dialling = tls.client.wrap_bio(client, server)
    for end in (dialling, accepting, dialling, accepting, dialling):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert accepting.version() == "TLSv1.2"
    with pytest.raises(NoBinding, match=r"not a fresh one of TLS 1\.3"):
        binding_of(accepting)

"""TLS between brokers: both ends show a certificate, and its *node name* is what counts, not the host's.

Version 1.3 only, without renegotiation, compression or a weak cipher to switch off, and a
connection is never resumed: each has a handshake of its own over both certificates.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
from dataclasses import dataclass
from typing import Final

from pubsubd_broker.trust.channel import ALPN, names_of
from pubsubd_broker.trust.secret_files import exposure
from pubsubd_protocol.errors import PubSubError

MAX_FILE_BYTES: Final = 1024 * 1024
"""Part of a file in which its mark is looked for. All of the system's authorities are a quarter of that."""


class TlsError(PubSubError):
    """A file cannot be used for TLS. The text says which one, what is wrong with it and what to do."""

    def __init__(self, option: str, path: str, problem: str) -> None:
        super().__init__(f"{option} {path}: {problem}")
        self.option = option
        self.path = path


@dataclass(frozen=True, slots=True)
class Unchanged:
    """No change: the files in force stay so, without anything new to say about them."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Connections that open from now on use the files' new content; those that are open stay as they are."""

    not_after: int


@dataclass(frozen=True, slots=True)
class HandshakeFailed:
    """The files have changed and cannot be used; what was loaded before stays in force. Said once."""

    reason: str


Refreshed = Unchanged | Reloaded | HandshakeFailed


class Tls:
    """Encryption of connections to and from peers, and the files that it comes from."""

    def __init__(self, cert: str, key: str, ca: str, *, node: str | None = None) -> None:
        """Paths of PEM files. `node`: whom the certificate has to speak for. Raises `TlsError`."""
        self.cert = cert
        self._files = _Files(cert, key, ca, node)
        # Before it is read: a change while it is being read is seen at the next refresh.
        self._seen = self._files.look()
        self._held = self._files.load()
        self.error: str | None = None
        """Reason why the files that are there now are not in force; None when they are."""

    @property
    def server(self) -> ssl.SSLContext:
        """For a connection that comes in now."""
        return self._held.server

    @property
    def client(self) -> ssl.SSLContext:
        """For one that is dialled now."""
        return self._held.client

    @property
    def not_after(self) -> int:
        """Expiry of our own certificate, in seconds since 1970."""
        return self._held.not_after

    @property
    def names(self) -> frozenset[str]:
        """The node names that our own certificate speaks for."""
        return self._held.names

    def refresh(self) -> Refreshed:
        """Loads the files anew if one of them is another than before. Blocking: 10 µs, about 10 ms if so.

        They are replaced one after the other, so they may not fit together for a moment; and a certificate
        may become valid later on. So what cannot be loaded is tried again at every call.
        """
        seen = self._files.look()
        if seen == self._seen and self.error is None:
            return Unchanged()
        try:
            self._held = self._files.load()
        except TlsError as error:
            reason = str(error)
            if reason == self.error:
                return Unchanged()
            self.error = reason
            return HandshakeFailed(reason)
        self._seen = seen
        self.error = None
        return Reloaded(self._held.not_after)


def explain(error: BaseException) -> str:
    """Reason why a connection could not be had, or was lost, in words for the log; "it" is the other end."""
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not accepted: {error.verify_message}: it has to be valid, and "
                "signed by an authority in --tls-ca"
            )
        case ssl.SSLError() if error.reason in _EXPLAINED:
            return _EXPLAINED[error.reason]
        case ssl.SSLError() if error.reason and "_ALERT_" in error.reason:
            alert = error.reason.partition("_ALERT_")[2].replace("_", " ").lower()
            return f"it does not accept this broker: {alert}: both need certificates that the other's --tls-ca has signed"
        case ConnectionResetError() if not str(error):
            return "it ended the TLS handshake: its log says why"
        case _:
            return str(error)


_NO_TLS: Final = (
    "it does not speak TLS: give all brokers --tls-cert, --tls-key and --tls-ca, or none"
)
_EXPLAINED: Final = {
    "HTTP_REQUEST": "it speaks HTTP: this port is for brokers",
    "NO_SHARED_CIPHER": "it has no cipher in common with this broker",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate: give it --tls-cert and --tls-key",
    "UNSUPPORTED_PROTOCOL": "it speaks an older TLS than 1.3",
    "WRONG_VERSION_NUMBER": _NO_TLS,
}


@dataclass(frozen=True, slots=True)
class _Held:
    """Two contexts that fit together, and what is in the certificate that both of them show."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    not_after: int
    names: frozenset[str]


_Look = tuple[tuple[int, int, int] | None, ...]
"""Values of each file that change when its content does; None for a missing file."""


@dataclass(frozen=True, slots=True)
class _Files:
    cert: str
    key: str
    ca: str
    node: str | None

    def look(self) -> _Look:
        return tuple(_look(path) for path in (self.cert, self.key, self.ca))

    def load(self) -> _Held:
        """Raises `TlsError`."""
        _check_content("--tls-cert", self.cert, b"-BEGIN CERTIFICATE-", "certificate")
        _check_content("--tls-key", self.key, b"PRIVATE KEY-", "private key", private=True)
        _check_content("--tls-ca", self.ca, b"-BEGIN CERTIFICATE-", "certificate")
        server = self._context(ssl.PROTOCOL_TLS_SERVER)
        # No tickets: a resumed connection would show no certificate, and its binding would not be its own.
        server.num_tickets = 0
        client = self._context(ssl.PROTOCOL_TLS_CLIENT)
        ours = self._meet_ourselves(server, client)
        not_after = (ours.getpeercert() or {})["notAfter"]
        assert isinstance(not_after, str)
        names = names_of(ours)
        if self.node is not None and self.node not in names:
            speaks_for = ", ".join(sorted(names)) or "no node"
            problem = f"it speaks for {speaks_for}: give one with the --node name {self.node} as a DNS name"
            raise TlsError("--tls-cert", self.cert, problem)
        return _Held(server, client, ssl.cert_time_to_seconds(not_after), names)

    def _context(self, protocol: int) -> ssl.SSLContext:
        # Made bare: `create_default_context` would trust the system's authorities, and write the keys of
        # every connection to a file if SSLKEYLOGFILE is set.
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        # Each certificate in the file is trusted, also an authority that another one has signed.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.set_alpn_protocols([ALPN])
        try:
            context.load_verify_locations(cafile=self.ca)
        except OSError as error:
            raise TlsError("--tls-ca", self.ca, f"{_words(error)}: {_GIVE_PEM}") from error
        try:
            context.load_cert_chain(self.cert, self.key, self._no_password)
        except OSError as error:
            raise self._unfit(error) from error
        return context

    def _no_password(self) -> str:
        raise TlsError("--tls-key", self.key, "is locked with a password: give one without")

    def _unfit(self, error: OSError) -> TlsError:
        """`load_cert_chain` does not say which of its two files is wrong."""
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            return TlsError("--tls-key", self.key, f"is not the key of {self.cert}: {_GIVE_PAIR}")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=self.cert)
        except OSError:
            return TlsError("--tls-cert", self.cert, f"{_words(error)}: {_GIVE_PEM}")
        return TlsError("--tls-key", self.key, f"{_words(error)}: {_GIVE_PEM}")

    def _meet_ourselves(self, server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
        """A handshake in memory between our two ends; returns one that has verified our certificate.

        What our peers will do with it, done first: they have the same --tls-ca. It also is the one way to
        read a certificate with the standard library. Raises `TlsError`.
        """
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        dialling = client.wrap_bio(to_client, to_server)
        accepting = server.wrap_bio(to_server, to_client, server_side=True)
        # Hello, answer and certificates, the other certificates, done.
        for end in (dialling, accepting, dialling, accepting):
            try:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
            except ssl.SSLCertVerificationError as error:
                advice = _ADVICE.get(
                    error.verify_code,
                    f"give one that an authority in --tls-ca {self.ca} has signed",
                )
                problem = f"peers would not accept it: {error.verify_message}: {advice}"
                raise TlsError("--tls-cert", self.cert, problem) from error
            except ssl.SSLError as error:
                problem = f"no handshake is possible with it: {_words(error)}: {_GIVE_PAIR}"
                raise TlsError("--tls-cert", self.cert, problem) from error
        return dialling


_GIVE_PEM: Final = "give a PEM file"
_GIVE_PAIR: Final = "give a certificate and its key"

_ADVICE: Final = {
    9: "wait until it is, or set this machine's clock",
    10: "renew it, or the authority that has signed it",
    26: "give one whose extendedKeyUsage has serverAuth and clientAuth, as a broker is both",
}
"""By OpenSSL's X509_V_ERR_ number: not yet valid, expired, of another purpose."""


def _look(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _check_content(option: str, path: str, mark: bytes, what: str, private: bool = False) -> None:
    try:
        # Not waited for, should it be a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(MAX_FILE_BYTES) if stat.S_ISREG(status.st_mode) else None
    except OSError as error:
        raise TlsError(option, path, f"{_words(error)}: give a file that can be read") from error
    if content is None:
        raise TlsError(option, path, "is not a regular file: give the path of one")
    if mark not in content:
        raise TlsError(option, path, f"it lacks a {what}: {_GIVE_PEM} with one")
    problem = exposure(status) if private else None
    if problem is not None:
        raise TlsError(option, path, problem)


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it cannot be read").replace("_", " ").lower()
    return error.strerror or str(error)

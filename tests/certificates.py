"""Authorities and the certificates that they sign, for one test each: made in a millisecond, not kept.

authority = Authority(tmp_path)
files = authority.certificate("a")                  # .cert .key .ca: paths, as the settings take them
late = authority.certificate("b", until=-HOUR)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Files:
    """The paths of one node's PEM files."""

    cert: str
    key: str
    ca: str


class Authority:
    """Signs certificates. Its own certificate stands in `<folder>/<name>.pem`, signed by itself or by `above`."""

    def __init__(self, folder: Path, name: str = "ca", above: Authority | None = None) -> None:
        self.folder = folder
        self.path = str(folder / f"{name}.pem")
        self.subject = _name(f"pubsubd test authority {name}")
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._signed = 0
        signer = above or self
        public = self.key.public_key()
        self._by = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
        builder = (
            _unsigned(self.subject, signer.subject, public, -HOUR, DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        if above is not None:
            builder = builder.add_extension(above._by, critical=False)
        self.pem = builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        write(self.path, self.pem)

    def certificate(
        self,
        *names: str,
        others: Sequence[x509.GeneralName] = (),
        common_name: str | None = None,
        since: timedelta = -HOUR,
        until: timedelta = DAY,
        usages: Sequence[x509.ObjectIdentifier] = (SERVER, CLIENT),
        password: bytes | None = None,
    ) -> Files:
        """A certificate for `names`, as DNS names, and for `others`. Without any of them it has no subjectAltName.

        `since`, `until`: times from now. `password`: locks the key's file.
        """
        self._signed += 1
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        builder = (
            _unsigned(_name(common_name), self.subject, public, since, until)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(self._by, critical=False)
        )
        speaks_for = [*map(x509.DNSName, names), *others]
        if speaks_for:
            builder = builder.add_extension(
                # Critical if the certificate has no subject (RFC 5280, 4.2.1.6).
                x509.SubjectAlternativeName(speaks_for),
                critical=common_name is None,
            )
        certificate = builder.sign(self.key, hashes.SHA256())
        stem = self.folder / f"{Path(self.path).stem}-{self._signed}"
        files = Files(f"{stem}.pem", f"{stem}.key", self.path)
        write(files.cert, certificate.public_bytes(Encoding.PEM))
        locked: KeySerializationEncryption = (
            NoEncryption() if password is None else BestAvailableEncryption(password)
        )
        write(files.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
        return files


def write(path: str, content: bytes) -> None:
    """Write a file at once, in place of an older one, for this user alone."""
    new = f"{path}.new"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    os.replace(new, path)


_SIGNS: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _name(common_name: str | None) -> x509.Name:
    if common_name is None:
        return x509.Name([])
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "pubsubd's tests")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _unsigned(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    since: timedelta,
    until: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer, subject, public, x509.random_serial_number(), now + since, now + until
    )

"""What comes from a server has an end, a lowest rate and a safe way (docs/security.md)."""

import datetime
import ipaddress
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aeflow.core.errors import DataError
from aeflow.data.fetch import fetch_file
from aeflow.study.cards import SourceFile
from tests.unit.data.faulty_server import HASTY, QUICK, Fault, Server, serving
from tests.unit.data.toy_dataset import left

CONTENT = random.Random(0).randbytes(300_000)
SMALL = replace(QUICK, most=500_000)


@pytest.fixture
def big(server: Server) -> Server:
    server.files["/big.bin"] = CONTENT
    return server


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate of 127.0.0.1 with its key, trusted in this test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form)
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return path


def fetch(url: str, destination: Path, patience=QUICK, **facts: int) -> bytes:
    file = SourceFile.model_validate({"name": "big.bin", "urls": [url], **facts})
    fetch_file(file, destination, None, patience)
    return destination.read_bytes()


@pytest.mark.parametrize(
    ("facts", "said"),
    [({}, "can be taken where the size is not known"), ({"size_bytes": 300_000}, "it should")],
)
def test_a_body_without_end_is_not_taken(
    big: Server, destination: Path, facts: dict[str, int], said: str
) -> None:
    big.faults["/big.bin"] = [Fault(endless=True)]
    with pytest.raises(DataError, match=f"sends more than the [35]00000 bytes that {said}"):
        fetch(f"{big.url}/big.bin", destination, SMALL, **facts)
    assert left(destination) == []
    big.faults["/big.bin"] = [Fault(unsized=True)]
    assert fetch(f"{big.url}/big.bin", destination, SMALL, **facts) == CONTENT


def test_a_body_of_unknown_size_leaves_half_of_the_disk(
    big: Server, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 200_000})
    monkeypatch.setattr("aeflow.data.download.shutil.disk_usage", lambda _: usage)
    big.faults["/big.bin"] = [Fault(endless=True)]
    with pytest.raises(DataError, match="more than the 100000 bytes that can be taken"):
        fetch(f"{big.url}/big.bin", destination)
    assert left(destination) == []


def test_an_announced_size_has_a_bound_that_a_card_may_exceed(
    big: Server, destination: Path
) -> None:
    few = replace(QUICK, most=1000)
    with pytest.raises(DataError, match="the file has 300000 bytes, more than 1000"):
        fetch(f"{big.url}/big.bin", destination, few)
    assert left(destination) == []
    assert fetch(f"{big.url}/big.bin", destination, few, size_bytes=300_000) == CONTENT


@pytest.mark.parametrize("fault", [Fault(trickle=0), Fault(trickle=100_000)])
def test_a_server_that_trickles_is_given_up(big: Server, destination: Path, fault: Fault) -> None:
    big.faults["/big.bin"] = [fault] * 3
    begin = time.monotonic()
    with pytest.raises(DataError, match=r"the server sent \d+ bytes in \d s after \d+ bytes, 2 t"):
        fetch(f"{big.url}/big.bin", destination, HASTY)
    assert time.monotonic() - begin < 10
    assert fetch(f"{big.url}/big.bin", destination, HASTY) == CONTENT


@pytest.mark.parametrize("count", [0, 1000])
def test_headers_that_trickle_are_given_up(big: Server, destination: Path, count: int) -> None:
    """Each byte comes in time: a timeout of the socket would never end it."""
    big.faults["/big.bin"] = [Fault(headers=count)]
    with pytest.raises(DataError, match="the server did not answer within 2 s after 0 bytes"):
        fetch(f"{big.url}/big.bin", destination, replace(HASTY, delays=()))


def test_no_way_leads_from_https_to_http(
    big: Server, destination: Path, certificate: Path
) -> None:
    with serving(certificate) as safe:
        safe.files["/big.bin"] = CONTENT
        safe.faults["/moved"] = [Fault(redirect="/big.bin")]
        assert fetch(f"{safe.url}/moved", destination) == CONTENT
        safe.faults["/moved"] = [Fault(redirect=f"{big.url}/big.bin")]
        with pytest.raises(DataError, match="redirects from https to http, where the file"):
            fetch(f"{safe.url}/moved", destination)
        assert big.asked == []
        big.faults["/up"] = [Fault(redirect=f"{safe.url}/big.bin")]
        assert fetch(f"{big.url}/up", destination) == CONTENT


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("file:///etc/hostname", r"another scheme \(file\)"),
        ("ftp://127.0.0.1/big.bin", "what is no web address"),
        ("data:text/plain,x", "what is no web address"),
        ("javascript:alert(1)", "what is no web address"),
        ("http://[::1/x", "what is no web address"),
        ("//", "without end"),
    ],
)
def test_a_redirect_leads_to_the_web_alone(
    big: Server, destination: Path, location: str, said: str
) -> None:
    big.faults["/moved"] = [Fault(redirect=location)] * 20
    with pytest.raises(DataError, match=said):
        fetch(f"{big.url}/moved", destination)
    assert left(destination) == []


def test_the_body_of_a_redirect_is_not_read(big: Server, destination: Path) -> None:
    big.faults["/moved"] = [Fault(redirect="/big.bin", endless=True)]
    assert fetch(f"{big.url}/moved", destination) == CONTENT


def test_redirects_have_an_end(big: Server, destination: Path) -> None:
    chain = [f"/step{number}" for number in range(12)]
    for here, there in zip(chain, [*chain[1:], "/big.bin"], strict=True):
        big.faults[here] = [Fault(redirect=there)] * 2
    with pytest.raises(DataError, match=r"redirects without end \(more than 10 times\)"):
        fetch(f"{big.url}{chain[0]}", destination)
    assert len(big.asked) == 11
    assert fetch(f"{big.url}{chain[2]}", destination) == CONTENT

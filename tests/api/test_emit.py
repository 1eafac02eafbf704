"""What `api/emit.py` promises."""

import socket
import threading
from uuid import UUID

import msgspec
import pytest

from api import emit
from api.listen import listening


def test_one_event_is_sent_as_it_was_written() -> None:
    """Numbers, blanks and the order of keys in the data stay; an id is there only if given."""
    body = emit.one("orders", "paid", b' {"b": 1.0,\n"a": 10000000000000000000000}')

    assert body == (
        b'{"source":"orders","event":"paid","data": {"b": 1.0,\n"a": 10000000000000000000000}}'
    )
    assert emit.one("s", "e", b"{}", "id-1") == b'{"source":"s","event":"e","data":{},"id":"id-1"}'


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"null", b"{", b"{}}", b"\xff"])
def test_data_that_is_no_json_object_is_refused(data: bytes) -> None:
    """It never gets as far as the service."""
    with pytest.raises(ValueError, match="must be a JSON object"):
        emit.one("s", "e", data)


def test_the_events_arrive_with_a_key() -> None:
    """Without a key one is made; the path of the URL may name a workspace."""
    with listening("127.0.0.1", 0, status=202) as receiver:
        answer = emit.send(receiver.url + "team-a/", b"{}")
        arrival = next(iter(receiver))

    assert answer == emit.Answer(202, "")
    assert (arrival.method, arrival.path, arrival.body) == ("POST", "/team-a/events", "{}")
    assert arrival.headers["content-type"] == "application/json"
    assert UUID(arrival.headers["idempotency-key"]).version == 4


def test_lines_and_a_key_of_ones_own() -> None:
    """NDJSON says that it is, and the given key is the one that is sent."""
    with listening("127.0.0.1", 0) as receiver:
        emit.send(receiver.url, b"{}\n{}\n", lines=True, key="k-1")
        arrival = next(iter(receiver))

    assert arrival.body == "{}\n{}\n"
    assert arrival.headers["content-type"] == "application/x-ndjson"
    assert arrival.headers["idempotency-key"] == "k-1"


def test_a_token_says_who_sends() -> None:
    """Where RBAC is enforced; a token that no header can hold is refused at once."""
    with listening("127.0.0.1", 0) as receiver:
        emit.send(receiver.url, b"{}", token="t0ken")
        arrival = next(iter(receiver))

    assert arrival.headers["kong-admin-token"] == "t0ken"
    with pytest.raises(ValueError, match="token must be printable"):
        emit.send("http://127.0.0.1:9", b"{}", token="a\nb")


def test_a_refusal_is_an_answer() -> None:
    """A status other than 2xx is given back, not raised."""
    with listening("127.0.0.1", 0, status=409) as receiver:
        assert emit.send(receiver.url, b"{}").status == 409


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events go straight to the service that was named."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with listening("127.0.0.1", 0) as receiver:
        assert emit.send(receiver.url, b"{}").status == 200


def test_when_nobody_listens_nothing_was_sent() -> None:
    """The error has no key: there is nothing to be in doubt about."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(emit.Unreachable, match="no answer from") as raised:
        emit.send(f"http://127.0.0.1:{port}", b"{}")

    assert raised.value.key is None


def test_when_the_answer_is_lost_the_key_is_told() -> None:
    """Stored or not, the same request with that key settles it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(emit.Unreachable, match="idempotency key k-1") as raised:
            emit.send(f"http://127.0.0.1:{server.getsockname()[1]}", b"{}", key="k-1")
        thread.join()

    assert raised.value.key == "k-1"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8001", "ftp://127.0.0.1", "http://", "http://x:y"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """The message says what was wrong with it."""
    with pytest.raises(ValueError, match=r"not an http or https URL|Port"):
        emit.send(url, b"{}")


def test_an_event_has_the_shape_that_the_service_takes() -> None:
    """The fields are those of `POST /events`."""
    event = msgspec.json.decode(emit.one("s", "e", b"{}", "i"))

    assert event == {"source": "s", "event": "e", "data": {}, "id": "i"}

"""`tilbud.client` against a real service, for threads and for asyncio: the same tests, but for who waits."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.e2e.campaigns import RULES, SLOW
from tests.running import CALL_S, Service, free_port, served, until

from tilbud.client import (
    AsyncClient,
    Client,
    Consent,
    Decision,
    Delivery,
    Explanation,
    Outcomes,
    OutcomeStatus,
    Question,
    Reason,
    Refusal,
)
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceServicer, add_DecisionServiceServicer_to_server

Made = Callable[..., Any]
NOBODY = "127.0.0.1:1"
FILES = {"rules.yaml": RULES, "slow.yaml": SLOW}


class _Awaited:
    """An AsyncClient whose calls are awaited by a loop in a thread of its own."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = AsyncClient(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute
        return lambda *arguments, **named: asyncio.run_coroutine_threadsafe(
            attribute(*arguments, **named), self._loop
        ).result(CALL_S)

    def end(self) -> None:
        """End the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that tests share."""
    with served(tmp_path_factory.mktemp("client"), FILES) as started:
        yield started


@pytest.fixture(params=[Client, _Awaited], ids=["threads", "asyncio"])
def client(request: pytest.FixtureRequest) -> Iterator[Made]:
    """Makes clients that wait long enough for a machine that stalls, and closes them."""
    made: list[Any] = []

    def make(target: str, **named: Any) -> Any:
        made.append(request.param(target, **{"decide_timeout_s": CALL_S, "timeout_s": CALL_S, **named}))
        return made[-1]

    yield make
    for each in made:
        each.close(0)
        if isinstance(each, _Awaited):
            each.end()


def test_a_decision_is_followed_to_its_outcome(service: Service, client: Made) -> None:
    """Decide, report, explain: one decision, with the context as it was said."""
    asking = client(service.target)
    decision = asking.decide(
        "rules", default="house", customer_id="anna", device="mobile", channel="app",
        features={"tier": "gold", "basket": 42.5, "returning": True}, include_ranking=True,
    )  # fmt: skip
    assert decision.served
    assert 0 < decision.probability <= 1
    assert (
        decision.probability
        == {each.offer_id: each.probability for each in decision.ranking}[decision.offer_id]
    )
    report = asking.report("rules", decision.decision_id, "bought", value=2)
    assert asking.flush(CALL_S)
    assert (report.delivery, report.status) == (Delivery.DELIVERED, OutcomeStatus.ACCEPTED)
    assert asking.outcomes.delivered == 1
    story: Explanation = asking.explain("rules", decision.decision_id)
    assert story.decision.offer_id == decision.offer_id
    assert story.used["tier"] == "gold"
    assert story.used["basket"] == 42.5
    assert {each.offer_id for each in story.offers if not each.removed_by} == {
        each.offer_id for each in decision.ranking
    }


def test_the_same_id_is_the_same_decision(service: Service, client: Made) -> None:
    """A retry by the caller is answered word for word."""
    asking = client(service.target)
    first, second = (asking.decide("rules", decision_id=f"again-{id(asking)}") for _ in range(2))
    assert first == second


def test_what_is_not_recorded_takes_no_outcomes(service: Service, client: Made) -> None:
    """A dry run has no id to report against, and an outcome of it is skipped; a denied consent has one."""
    asking = client(service.target)
    dry = asking.decide("rules", dry_run=True)
    assert (dry.served, dry.decision_id) == (True, "")
    assert asking.report("rules", dry.decision_id, "bought").delivery is Delivery.SKIPPED
    assert asking.activate("rules", dry.decision_id) is None
    denied = asking.decide("rules", consent=Consent.DENIED, customer_id="bent")
    assert denied.decision_id
    assert asking.report("rules", denied.decision_id, "looked").delivery is not Delivery.SKIPPED


def test_a_deferred_decision_is_activated(service: Service, client: Made) -> None:
    """From then on outcomes count; where another offer was shown none do."""
    asking = client(service.target)
    shown, other = (asking.decide("slow", defer_activation=True) for _ in range(2))
    assert asking.activate("slow", shown.decision_id) is not None
    another = ({"one", "two"} - {other.offer_id}).pop()
    assert asking.activate("slow", other.decision_id, shown_offer_id=another) is None


def test_many_questions_go_in_one_call(service: Service, client: Made) -> None:
    """In their order; a wrong one gets a refusal of its own."""
    asking = client(service.target)
    right, wrong = asking.decide_many([Question("rules", device="mobile"), Question("nothing")])
    assert isinstance(right, Decision)
    assert isinstance(wrong, Refusal)
    assert wrong.reason == "UNKNOWN_CAMPAIGN"


def test_a_mistake_is_told_whatever_the_default(service: Service, client: Made) -> None:
    """A refusal that names the field; of an outcome, its report says so."""
    told = []
    asking = client(service.target, on_report=told.append)
    with pytest.raises(Refusal, match="nothing") as unknown:
        asking.decide("nothing", default="house")
    assert (unknown.value.code, unknown.value.later) == ("NOT_FOUND", False)
    with pytest.raises(Refusal) as bad:
        asking.decide("rules", default="house", decision_id="no spaces")
    assert list(bad.value.fields) == ["decision_id"]
    report = asking.report("rules", asking.decide("rules").decision_id, "sneezed")
    assert asking.flush(CALL_S)
    assert report.delivery is Delivery.REFUSED
    assert report.problem.startswith("outcome: must be one the campaign declares: bought")
    assert told == [report]


def test_nobody_there_is_the_default_within_its_time(client: Made) -> None:
    """It says that it is one, and why; without a default it is a refusal."""
    asking = client(NOBODY, decide_timeout_s=0.05)
    decision = asking.decide("shop", default="house", default_payload={"title": "Ours"})
    assert (decision.offer_id, decision.payload) == ("house", {"title": "Ours"})
    assert (decision.served, decision.reason) == (False, Reason.DEFAULT)
    assert decision.problem
    until(lambda: "not asked" in asking.decide("shop", default="house").problem)  # after some that failed
    with pytest.raises(Refusal) as refused:
        asking.decide("shop")
    assert refused.value.later


def test_outcomes_outlive_an_outage_and_count_once(tmp_path: Path, client: Made) -> None:
    """Buffered while the service is away, delivered once it is back, and told apart all the while."""
    listen = f"127.0.0.1:{free_port()}"
    with served(tmp_path, FILES, ["--listen", listen]) as service:
        told = []
        asking = client(listen, on_report=told.append)
        ids = [asking.decide("slow").decision_id for _ in range(20)]
        service.kill()
        reports = [asking.report("slow", each, "click") for each in ids]
        assert not asking.flush(0.2)
        assert {each.delivery for each in reports} == {Delivery.BUFFERED}
        assert not asking.decide("slow", default="house", timeout_s=0.1).served
        service.start()
        assert asking.flush(CALL_S)
        assert {(each.delivery, each.status) for each in reports} == {
            (Delivery.DELIVERED, OutcomeStatus.ACCEPTED)
        }
        assert told == reports
        assert service.metric("tilbud_outcomes_total", campaign="slow", status="accepted") == len(ids)
        again = asking.report("slow", ids[0], "click")
        assert asking.flush(CALL_S)
        assert again.status is OutcomeStatus.DUPLICATE
        assert asking.decide("slow", default="house").served


def test_a_client_that_closes_says_what_it_lost(client: Made) -> None:
    """What could not be delivered is dropped and told; so is what comes after."""
    told = []
    asking = client(NOBODY, on_report=told.append, outcomes_max=2)
    reports = [asking.report("shop", name, "click") for name in "abc"]
    assert [each.delivery for each in reports] == [Delivery.BUFFERED, Delivery.BUFFERED, Delivery.DROPPED]
    asking.close(0)
    assert {each.delivery for each in reports} == {Delivery.DROPPED}
    assert len(told) == 3
    assert asking.outcomes.dropped == 3


def test_many_share_one_client(service: Service, client: Made) -> None:
    """Calls side by side: every outcome is delivered, and every decision is another."""
    asking = client(service.target)

    def visit(_: int) -> str:
        decision_id: str = asking.decide("slow", default="house").decision_id
        asking.report("slow", decision_id, "click")
        return decision_id

    with ThreadPoolExecutor(16) as threads:
        ids = set(threads.map(visit, range(200)))
    assert asking.flush(CALL_S)
    assert len(ids) == 200
    assert asking.outcomes == Outcomes(buffered=0, delivered=200, refused=0, dropped=0, skipped=0)


def test_a_program_that_ends_delivers_first(service: Service) -> None:
    """Also where nobody closes its client."""
    code = (
        "from tilbud.client import Client\n"
        f"client = Client({service.target!r}, decide_timeout_s={CALL_S})\n"
        "client.report('slow', client.decide('slow', decision_id='ended').decision_id, 'click')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=CALL_S)
    again = service.decisions.ReportOutcome(
        pb.ReportOutcomeRequest(campaign="slow", decision_id="ended", outcome="click")
    )
    assert again.status == pb.OUTCOME_STATUS_DUPLICATE


def test_a_client_that_was_closed_answers_the_default(client: Made) -> None:
    """A page that is still being made while its program ends gets one too; closing twice is no mistake."""
    asking = client(NOBODY)
    asking.close(0)
    asking.close(0)
    decision = asking.decide("shop", default="house")
    assert (decision.offer_id, decision.served) == ("house", False)
    assert "no call was made" in decision.problem


def test_a_source_of_metadata_that_fails_is_the_default(client: Made) -> None:
    """Where tokens come from may be away too."""

    def source() -> list[tuple[str, str]]:
        raise RuntimeError("no token now")

    decision = client(NOBODY, metadata=source).decide("shop", default="house")
    assert (decision.offer_id, decision.served) == ("house", False)
    assert "no token now" in decision.problem


def test_what_on_report_raises_ends_no_sending(service: Service, client: Made) -> None:
    """Not even where it would end a program."""

    def told(_: Any) -> None:
        raise SystemExit(3)

    asking = client(service.target, on_report=told)
    for name in ("first", "second"):
        asking.report("slow", asking.decide("slow").decision_id, "click", event_id=name)
        assert asking.flush(CALL_S)
    assert asking.outcomes.delivered == 2


def test_a_forked_process_delivers_its_own(service: Service) -> None:
    """Which the thread of its parent would not do."""
    code = (
        "import os\n"
        "from tilbud.client import Client\n"
        f"client = Client({service.target!r}, decide_timeout_s={CALL_S})\n"
        "client.report('slow', client.decide('slow').decision_id, 'click')\n"
        f"assert client.flush({CALL_S})\n"
        "decision_id = client.decide('slow').decision_id\n"
        "if not (child := os.fork()):\n"
        "    client.report('slow', decision_id, 'click')\n"
        f"    delivered = client.flush({CALL_S}) and client.outcomes.delivered == 1\n"
        "    os._exit(0 if delivered else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=CALL_S)


def test_tasks_that_are_cancelled_lose_no_outcome(service: Service) -> None:
    """As a program does that ends; and another loop may go on with the same client."""
    asking = AsyncClient(service.target, decide_timeout_s=CALL_S)

    async def visit() -> None:
        decision = await asking.decide("slow")
        await asking.report("slow", decision.decision_id, "click")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def end() -> None:
        assert (await asking.decide("slow")).served
        assert await asking.flush(CALL_S)
        await asking.close(0)

    asyncio.run(visit())
    asyncio.run(end())
    assert asking.outcomes == Outcomes(buffered=0, delivered=1, refused=0, dropped=0, skipped=0)


def test_a_call_in_flight_of_a_client_that_closes_is_the_default() -> None:
    """It is not the task of the caller that was cancelled."""

    async def close() -> Decision:
        asking = AsyncClient(NOBODY, decide_timeout_s=CALL_S)
        decision = asyncio.create_task(asking.decide("shop", default="house"))
        await asyncio.sleep(0)
        await asking.close(0)
        return await decision

    assert not asyncio.run(close()).served


def test_metadata_goes_with_each_call(service: Service, client: Made) -> None:
    """A source is asked at each of them; one that fails does not end the sending of outcomes."""
    asked = []

    def source() -> list[tuple[str, str]]:
        asked.append(1)
        if len(asked) == 2:
            raise RuntimeError("no token now")
        return [("authorization", "Bearer token")]

    asking = client(service.target, metadata=source)
    report = asking.report("rules", asking.decide("rules").decision_id, "looked")
    assert asking.flush(CALL_S)
    assert report.delivery is Delivery.DELIVERED
    assert len(asked) == 3


class _Forgetful(DecisionServiceServicer):
    """Answers decisions with what was sent beside them, and loses its first answer to outcomes."""

    def __init__(self) -> None:
        self.batches: list[pb.BatchReportOutcomesRequest] = []

    def Decide(self, request: pb.DecideRequest, context: grpc.ServicerContext) -> pb.DecideResponse:  # noqa: N802
        """Return the token as the offer's id."""
        token = dict(context.invocation_metadata()).get("authorization", "")
        return pb.DecideResponse(offer_id=str(token), decision_id=request.decision_id, recorded=True)

    def BatchReportOutcomes(  # noqa: N802
        self, request: pb.BatchReportOutcomesRequest, context: grpc.ServicerContext
    ) -> pb.BatchReportOutcomesResponse:
        """Take the first batch and fail; then say what a service says that has it."""
        self.batches.append(request)
        if len(self.batches) == 1:
            context.abort(grpc.StatusCode.INTERNAL, "the answer is lost")
        answer = pb.BatchReportOutcomesResponse()
        for _ in request.requests:
            answer.results.add().outcome.status = pb.OUTCOME_STATUS_DUPLICATE
        return answer


@pytest.fixture
def forgetful() -> Iterator[tuple[_Forgetful, grpc.Server]]:
    """Serves it, on the addresses that a test adds before it starts."""
    server = grpc.server(ThreadPoolExecutor(4))
    servicer = _Forgetful()  # type: ignore[abstract]  # two of its methods are called
    add_DecisionServiceServicer_to_server(servicer, server)
    yield servicer, server
    server.stop(0).wait(CALL_S)


def test_credentials_and_a_token_are_sent(
    tmp_path: Path, forgetful: tuple[_Forgetful, grpc.Server], client: Made
) -> None:
    """A service that encrypts answers whoever trusts its certificate; whoever does not has the default."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, which makes a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", key, "-out", certificate,
        ],
        check=True, capture_output=True, timeout=CALL_S,
    )  # fmt: skip
    _, server = forgetful
    pair = (key.read_bytes(), certificate.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    token = [("authorization", "Bearer 7")]
    asking = client(f"127.0.0.1:{port}", credentials=trusted, metadata=token)
    assert asking.decide("shop", default="house").offer_id == "Bearer 7"
    for credentials in (None, grpc.ssl_channel_credentials()):
        asking = client(f"127.0.0.1:{port}", decide_timeout_s=0.2, credentials=credentials)
        assert not asking.decide("shop", default="house").served


def test_a_lost_answer_is_asked_for_again(
    tmp_path: Path, forgetful: tuple[_Forgetful, grpc.Server], client: Made
) -> None:
    """Over a socket of the machine: the same outcomes once more, word for word, and they are delivered."""
    servicer, server = forgetful
    server.add_insecure_port(f"unix:{tmp_path}/socket")
    server.start()
    asking = client(f"unix:{tmp_path}/socket")
    report = asking.report("shop", asking.decide("shop").decision_id, "click", value=2)
    assert asking.flush(CALL_S)
    assert (report.delivery, report.status) == (Delivery.DELIVERED, OutcomeStatus.DUPLICATE)
    first, second = servicer.batches
    assert first == second
    assert first.requests[0].value == 2


@pytest.mark.parametrize("made", [Client, AsyncClient])
def test_what_is_no_address_is_refused_at_once(made: type) -> None:
    """With an example of one."""
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:50051"):
        made("nonsense")

"""The pages of models: what is in production and why, and what a version rests on."""

from __future__ import annotations

import urllib.error
import urllib.request
from asyncio import to_thread

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.rpc.errors import FailedPrecondition, NotFound, Reason
from tunix_rt.v1 import model_pb2
from tunix_rt.v1 import registry_service_pb2 as pb2

MODEL, V1, V2 = "models/math", "models/math/versions/v1", "models/math/versions/v2"
OLD, NEW, OTHER = (f"evaluations/{name}" for name in ("base-golden-v2", "full-golden-v2", "full-arithmetic"))
BASELINE = model_pb2.Baseline(
    model=MODEL,
    evaluation=OLD,
    margin=0.02,
    confidence=0.95,
    floors=[model_pb2.SectionFloor(section="units", min_score=0.5)],
)


def version(name, **fields):
    return model_pb2.ModelVersion(
        name=name,
        digest="ab" * 32,
        size_bytes=538_000_000,
        parameter_count=134_515_008,
        architecture="LlamaForCausalLM",
        create_time=Timestamp(seconds=1_790_000_000),
        **fields,
    )


VERSIONS = {
    V1: version(V1, stage=model_pb2.MODEL_STAGE_RETIRED),
    V2: version(
        V2,
        stage=model_pb2.MODEL_STAGE_PRODUCTION,
        aliases=["champion"],
        run="runs/full",
        evaluations=[OTHER, NEW],
        gate_overridden=True,
        description="<script>window.hostile = 1</script>",
    ),
}


@pytest.fixture
def registry(registry):
    """The registry of the other pages with a model of two versions, one of them past a gate that failed."""

    class WithModels(type(registry)):
        async def ListModels(self, request, context):
            known = [] if not self.runs or request.model not in ("", MODEL) else [MODEL]
            alias = model_pb2.ModelAlias(name=f"{MODEL}/aliases/champion", version=V2)
            return pb2.ListModelsResponse(
                models=[
                    model_pb2.Model(
                        name=name,
                        aliases=[alias],
                        newest_version=V2,
                        production_version=V2,
                        version_count=2,
                        baseline=BASELINE,
                    )
                    for name in known
                ]
            )

        async def ListModelVersions(self, request, context):
            return pb2.ListModelVersionsResponse(model_versions=reversed(VERSIONS.values()))

        async def GetModelVersion(self, request, context):
            if request.name not in VERSIONS:
                raise NotFound(request.name)
            return VERSIONS[request.name]

        async def ListModelEvents(self, request, context):
            event = model_pb2.ModelEvent(
                event_time=Timestamp(seconds=1_790_000_000),
                kind="stage",
                description="v2: none → production; gate overridden",
                reason="the old one is broken",
                version=V2,
                override_gate=True,
            )
            return pb2.ListModelEventsResponse(events=[event])

        async def CheckBaseline(self, request, context):
            if request.evaluation != NEW:
                raise FailedPrecondition(Reason.NOT_COMPARABLE, "Another dataset.")
            floor = model_pb2.FloorCheck(
                section="units", min_score=0.5, score=0.45, baseline_score=0.6, item_count=40
            )
            return model_pb2.BaselineCheck(
                difference=-0.01,
                lower_bound=-0.041,
                item_count=80,
                score=0.59,
                baseline_score=0.6,
                reasons=["Section `units`: 0.450 is below the floor 0.500."],
                lost_items=["sum-0001", "sum-0002"],
                lost_count=30,
                floors=[floor],
                baseline=BASELINE,
                evaluation=NEW,
                method="score",
            )

        async def GetLineage(self, request, context):
            nodes = [
                model_pb2.LineageNode(name="datasets/golden-v2", kind="dataset", digest="cd" * 32),
                model_pb2.LineageNode(name="runs/full", kind="run", sources=["datasets/golden-v2"]),
                model_pb2.LineageNode(name=V2, kind="model-version", sources=["runs/full"]),
            ]
            return model_pb2.Lineage(nodes=nodes)

        async def GetModelCard(self, request, context):
            return model_pb2.ModelCard(markdown="# math v2\n<b>not bold</b>")

    return WithModels()


async def get(url):
    def read():
        try:
            with urllib.request.urlopen(url) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await to_thread(read)


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("/models", [">math</a>", "champion → <a", 'href="/models/math/versions/v2"', "base-golden-v2"]),
        (
            "/models/math",
            [
                "2 points worse than",
                "50.0 % on units",
                "gate overridden",
                "the old one is broken",
                ">retired<",
            ],
        ),
        (
            "/models/math/versions/v2",
            [
                *(
                    "@champion",
                    "134,515,008",
                    "538.0 MB",
                    "tunix-rt models download models/math/versions/v2 ./math",
                ),
                *("does not hold", "Difference -1.0 points, lower bound -4.1", "below the floor"),
                *("30 items lost", "sum-0001, sum-0002", "full-golden-v2", "cdcdcdcdcdcd", "# math v2"),
            ],
        ),
        ("/models/math/versions/v1", ["These weights have not been evaluated."]),
    ],
)
async def test_page_shows(site, path, texts):
    status, body = await get(site + path)
    assert status == 200
    assert [text for text in texts if text not in body] == []


async def test_what_people_wrote_is_escaped(site):
    _, body = await get(site + "/models/math/versions/v2")
    assert ("<script>window" in body, "<b>not bold" in body) == (False, False)


async def test_a_version_without_comparable_evaluations_shows_no_check(site):
    _, body = await get(site + "/models/math/versions/v1")
    assert "Against the baseline" not in body


@pytest.mark.parametrize(
    ("path", "code"), [("/models/none", 404), ("/models/math/versions/v9", 404), ("/models/Math", 400)]
)
async def test_what_is_not_there_is_told(site, path, code):
    assert (await get(site + path))[0] == code


async def test_no_models_say_what_to_run(site, registry):
    registry.runs.clear()
    assert "tunix-rt models import" in (await get(site + "/models"))[1]


async def test_pages_fit_a_narrow_window(browser, site):
    page = await browser.new_page(viewport={"width": 420, "height": 900})
    for path in ("/models", "/models/math", "/models/math/versions/v2"):
        await page.goto(site + path)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 420, path

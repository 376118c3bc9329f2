from html.parser import HTMLParser

import pytest

from aeflow.core.errors import DataError
from aeflow.questions.claims import Published, claims_display, claims_table
from aeflow.questions.curves import plot_roc
from aeflow.questions.results import main_table, results_table
from aeflow.report.contents import Question
from aeflow.report.page import build_report
from aeflow.study.cards import DatasetCard

VOID = {"meta", "img", "br", "hr", "link", "input"}
SOURCE = {
    "title": "The paper",
    "citation": "Author: Title.",
    "url": "https://example.org/paper",
    "threshold": "not stated",
    "differs": "Everything.",
}


class Page(HTMLParser):
    """Collects what a test asks about and checks that every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.texts, self.tags = [], [], [], [], set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.add(tag)
        assert not any(name.startswith("on") for name in attributes)
        if tag == "img":
            self.images.append(attributes)
        elif "src" in attributes or "href" in attributes:
            self.links.append((tag, attributes.get("href") or attributes["src"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def cards():
    card = {
        "title": "Tiles <script>alert(1)</script>",
        "licence": "CC BY 4.0",
        "citation": "Maker: Tiles & more.",
        "homepage": "https://example.org/tiles",
        "notes": "Grey tiles.",
        "layout": {"image": "(?P<split>.*)/(?P<defect>.*)", "normal": "good"},
        "counts": {"all": {"train_normal": 1, "test_normal": 1, "test_anomalous": 1}},
    }
    return {name: DatasetCard.model_validate(card | {"name": name}) for name in ("tiles", "other")}


@pytest.fixture
def report(cards):
    def build(runs, figures=(), trainings=(), published=None, questions=()):
        results = results_table(runs)
        numbers = published or {"sources": {"paper": SOURCE}, "numbers": []}
        return build_report(
            study="my_study",
            results=results,
            main=main_table(results),
            published=Published.model_validate(numbers),
            metrics=runs,
            trainings=trainings,
            figures=figures,
            cards=cards,
            questions=questions,
        )

    return build


@pytest.fixture
def figures(make_run, tmp_path):
    paths = [tmp_path / "roc.svg", tmp_path / "roc.png"]
    plot_roc([make_run()]).save(png=paths[1], svg=paths[0])
    return paths


def test_the_page_is_whole_and_needs_nothing_else(report, make_run, figures):
    text = report([make_run()], figures)
    page = Page(text)
    assert len(page.images) == 2
    for image in page.images:
        assert image["src"].startswith(("data:image/svg+xml;base64,", "data:image/webp;base64,"))
        assert len(image["alt"]) > 20
    outside = [link for link in page.links if not link[1].startswith("#")]
    assert outside == [("a", "https://example.org/tiles"), ("a", "https://example.org/paper")]
    assert not page.tags & {"script", "link", "iframe", "object", "base"}
    for loading in ("url(", "@import"):
        assert loading not in text
    anchors = {link[1][1:] for link in page.links if link[1].startswith("#")}
    assert all(f'id="{anchor}"' in text for anchor in anchors)


def test_what_is_told(report, make_run):
    runs = [
        make_run(seed=0, image_auroc=0.8),
        make_run(seed=1, image_auroc=0.9),
        make_run(variant="gradient", method="gradient", encoder=None, best_epoch=None),
    ]
    trainings = [
        {
            **{"dataset": "tiles", "category": "all", "variant": "aeflow", "seed": seed},
            **{"settings": {"flow": {"steps": 8, "hidden_channels": None}}, "device": "cpu"},
            "versions": {"torch": f"2.{seed}"},
        }
        for seed in (0, 1)
    ]
    text = Page(report(runs, trainings=trainings)).text
    for expected in (
        "my_study",
        "2 variants on 1 dataset, 1 or 2 seeds each.",
        "85.0 ± 7.1",
        "Grey tiles.",
        "Tiles <script>alert(1)</script>",  # as text
        "pixel_auroc: There are no pixel masks.",
        "aeflow 1 1.25 f1_max 85.0 90.0 75.0–85.0 7 12.5",
        "flow.steps 8",
        "flow.hidden_channels null",
        "torch 2.0, 2.1",
        "CC BY 4.0",
        "Maker: Tiles & more.",
    ):
        assert expected in text, expected


def test_a_question_has_its_figures_and_tables_and_the_dataset_the_others(
    report, make_run, tmp_path
):
    runs = [make_run(seed=seed, image_auroc=0.8 + seed / 10) for seed in (0, 1)]
    numbers = [{"dataset": "tiles", "who": "paper", "image_auroc": "92.00"}]
    published = Published.model_validate({"sources": {"paper": SOURCE}, "numbers": numbers})
    claims = claims_table(main_table(results_table(runs)), published)
    paths = [tmp_path / f"{kind}-tiles.svg" for kind in ("roc", "claims")]
    for path in paths:
        plot_roc(runs).save(png=path.with_suffix(".png"), svg=path)
    tables = [("Their numbers", claims_display(claims, published))]
    question = Question("claims", "Does it reproduce?", "With care.", ("claims",), tables)
    page = Page(report(runs, figures=paths, questions=[question]))
    assert len(page.images) == 2
    assert ("a", "#claims") in page.links
    first, second = page.text.split("Grey tiles.")  # the dataset's section begins there
    for expected in ("Does it reproduce? With care.", "92.00", "−7.0", "paper: Everything."):
        assert expected in first, expected
    assert first.count("ROC curves of tiles.") == second.count("ROC curves of tiles.") == 1


def test_categories_of_a_seed_are_averaged_in_the_component_table(report, make_run):
    values = {("a", 0): 0.6, ("b", 0): 0.8, ("a", 1): 0.8, ("b", 1): 0.8}
    runs = [
        make_run(
            category=category,
            seed=seed,
            image_auroc=value,
            components={"nll": {"val_auroc": None, "test_auroc": value}},
        )
        for (category, seed), value in values.items()
    ]
    text = Page(report(runs)).text
    assert "on the test images Component aeflow nll 75.0 ± 7.1" in text
    assert "on the validation images" not in text  # nothing is known there


def test_settings_name_who_differs_and_the_metrics_count(report, make_run):
    def run(dataset, variant, **settings):
        return make_run(dataset=dataset, variant=variant, settings=settings)

    runs = [
        run("tiles", "deep", beta=0.9, steps=8, lr=1, same=1),
        run("tiles", "flat", beta=0.9, steps=2, lr=1, same=1),
        run("other", "deep", beta=0.9, steps=8, lr=2, same=1),
        run("other", "flat", beta=0.5, steps=2, lr=2, same=1),
    ]
    stale = [runs[0] | {"settings": {"beta": 0.1}, "device": "cpu", "versions": {}}]
    text = Page(report(runs, trainings=stale)).text
    assert "beta 0.9 (tiles/deep, tiles/flat, other/deep); 0.5 (other/flat)" in text
    assert "steps 8 (deep); 2 (flat)" in text
    assert "lr 1 (tiles); 2 (other)" in text
    assert "same 1 " in text


def test_figures_stand_in_their_datasets_section(report, make_run, figures):
    text = report([make_run(dataset="other"), make_run()], figures[:1])
    start, end = text.index('id="dataset-tiles"'), text.index('id="cost"')
    assert start < text.index("data:image/svg+xml") < end
    assert text.index('id="dataset-other"') < start  # the study's order


def test_two_datasets_of_one_card_are_told_apart(report, make_run, cards):
    official = cards["tiles"].model_copy(update={"split": "official"})
    cards["other"] = official
    page = Page(report([make_run(dataset="tiles"), make_run(dataset="other")])).text
    assert page.count("Tiles <script>alert(1)</script> (other)") == 1
    assert page.count("a patient may be in both train and test") == 1


def test_same_input_same_page(report, make_run, figures):
    assert report([make_run()], figures) == report([make_run()], figures)


def test_a_missing_figure_is_named(report, make_run, tmp_path):
    with pytest.raises(DataError, match=r"roc\.svg is missing"):
        report([make_run()], [tmp_path / "roc.svg"])

"""Fit a method to one dataset's category with one seed (aeflow.training.trainer)."""

from pathlib import Path
from typing import Any

from aeflow.study.asked import FitAsked
from aeflow.study.job import job


def train_model(
    asked: FitAsked,
    images: Path,
    index: Path,
    features: Path,
    weights: Path,
    state: Path,
    model: Path,
    history: Path,
) -> dict[str, Any]:
    """Write the checkpoint and the history."""
    from aeflow.core.files import write_text
    from aeflow.core.tensors import save_tensors
    from aeflow.data.prepared import open_prepared
    from aeflow.methods.method import build
    from aeflow.training.devices import peak_rss_mib, set_up
    from aeflow.training.state import State, fingerprint
    from aeflow.training.trainer import Trainer

    method, settings = asked.method, asked.settings
    device = set_up(settings.training, asked.seed, peer=method.peer)
    prepared = open_prepared(images, index)
    learner = build(method, settings, prepared.images, device, features, weights)
    unfinished = State(state, fingerprint(asked, index, features, weights))
    trainer = Trainer(learner, settings.training, asked.seed, unfinished)
    trained = trainer.fit(prepared.train, prepared.validation_normals)
    save_tensors(model, trained.tensors)
    names = list(trained.history[-1]) if trained.history else ["epoch", "train_loss", "val_loss"]
    rows = [[str(row.get(name, "")) for name in names] for row in trained.history]
    write_text(history, "".join(",".join(line) + "\n" for line in [names, *rows]))
    state.unlink(missing_ok=True)
    return {
        "device": device.type,
        "n_train": trained.n_train,
        "n_validation": len(prepared.validation_normals),
        "best_epoch": trained.best_epoch,
        "epochs_run": sum(row["epoch"] > 0 for row in trained.history),
        "fit_seconds": round(trained.fit_seconds, 3),
        "peak_rss_mib": peak_rss_mib(),
        "parameters": learner.parameters,
    }


if __name__ == "__main__":
    job(train_model)

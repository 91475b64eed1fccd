"""The denoising objective: targets, weights by hand, and what it reports."""

from typing import get_args

import numpy as np
import pytest
import torch

from genvlm.config.diffusion import DiffusionTrainConfig, Prediction
from genvlm.config.schema import parse_config
from genvlm.config.training import OptimizerConfig
from genvlm.data.pairs import PairBatch
from genvlm.errors import ConfigError
from genvlm.models.diffusion.schedule import NoiseSchedule, build_schedule
from genvlm.testing.tiny_diffusion import NetworkKind, tiny_diffusion
from genvlm.training.objectives.denoising import DenoisingObjective, Weighting, min_snr_weights
from genvlm.training.optimizers import build_optimizers


def batch(texts: tuple[str, ...] = ("a red bar", "", "a blue square")) -> PairBatch:
    model = tiny_diffusion()
    generator = torch.Generator().manual_seed(1)
    shape = (len(texts), *model.latents.shape)
    latents, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    levels = torch.tensor([3, 400, 990])[: len(texts)]
    return PairBatch(latents, *model.texts.encode(texts), levels, noise, 3.0)


def objective(
    prediction: Prediction = "v_prediction", weighting: Weighting = "equal"
) -> DenoisingObjective:
    model = tiny_diffusion(prediction=prediction)
    return DenoisingObjective(
        model.denoiser, model.schedule, prediction, weighting=weighting, min_snr_gamma=5.0
    )


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_the_loss_is_the_mean_squared_error_of_the_target(prediction: Prediction) -> None:
    model, rows = tiny_diffusion(prediction=prediction), batch()
    losses = objective(prediction)(rows)
    expected = 0.0
    for i in range(3):
        alpha, sigma = (t[rows.levels[i]] for t in (model.schedule.alphas, model.schedule.sigmas))
        x, noise = rows.latents[i], rows.noise[i]
        target = {
            "epsilon": noise, "v_prediction": alpha * noise - sigma * x, "flow": noise - x,
        }[prediction]  # fmt: skip
        text = model.denoiser.read(rows.pieces[i : i + 1], rows.mask[i : i + 1])
        x_t = (alpha * x + sigma * noise)[None].float()
        predicted = model.predict(x_t, rows.levels[i : i + 1], text)[0]
        expected += float((predicted - target).square().mean())
    assert float(losses.weighted_sum) == pytest.approx(expected, rel=1e-4)
    assert float(losses.terms["mse"]) == pytest.approx(expected, rel=1e-4)
    assert losses.counts["mse"] == 3


def test_min_snr_weights_are_those_of_the_paper() -> None:
    """Signal-to-noise ratios 20, 5 and 0.25 with gamma 5: on the clean picture 5, 5, 0.25."""
    snr = np.array([20.0, 5.0, 0.25])
    schedule = NoiseSchedule(np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr)), np.arange(3.0))
    epsilon, v = (min_snr_weights(schedule, p, 5.0) for p in ("epsilon", "v_prediction"))
    np.testing.assert_allclose(epsilon, [5 / 20, 1, 1])
    np.testing.assert_allclose(v, [5 / 21, 5 / 6, 0.25 / 1.25])


@pytest.mark.parametrize("schedule", ["cosine", "flow"])
def test_min_snr_weighs_the_error_of_the_clean_picture(schedule: str) -> None:
    """Also where alpha^2 + sigma^2 is not 1."""
    noise = build_schedule(schedule, 50)  # type: ignore[arg-type]
    levels = torch.tensor([2, 20, 45])
    generator = torch.Generator().manual_seed(0)
    x, drawn, off = (
        torch.randn(3, 1, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    x_t = noise.add_noise(x, drawn, levels)
    for prediction in ("epsilon", "v_prediction"):
        if prediction == "epsilon" and schedule == "flow":
            continue
        predicted = noise.target(x, drawn, levels, prediction) + off
        clean = noise.denoised(x_t, predicted, levels, prediction)
        weights = min_snr_weights(noise, prediction, 5.0)[levels.numpy()]
        ours = off.square().flatten(1).mean(1).numpy() * weights
        of_clean = (clean - x).square().flatten(1).mean(1).numpy()
        expected = of_clean * np.minimum(noise.snr[levels.numpy()], 5.0)
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_weights_change_the_loss_and_not_what_is_reported() -> None:
    rows = batch()
    equal, weighted = objective()(rows), objective(weighting="min_snr")(rows)
    assert equal.terms["mse"] == weighted.terms["mse"]
    assert weighted.weighted_sum < 0.9 * equal.weighted_sum
    table = min_snr_weights(tiny_diffusion().schedule, "v_prediction", 5.0)
    last = PairBatch(*(getattr(rows, n)[2:] for n in ("latents", "pieces", "mask", "levels")),
                     rows.noise[2:], 3.0)  # fmt: skip
    ratio = objective(weighting="min_snr")(last).weighted_sum / objective()(last).weighted_sum
    assert float(ratio) == pytest.approx(table[990], rel=1e-5)


def test_no_weights_are_made_up_for_flows() -> None:
    with pytest.raises(ConfigError, match="min_snr weighting is for"):
        min_snr_weights(build_schedule("flow", 10), "flow", 5.0)


def config(**changes: object) -> dict[str, object]:
    model = {
        "network": {"kind": "dit", "hidden_size": 16, "num_layers": 1, "num_heads": 2},
        "text_encoder": {"kind": "small", "hidden_size": 16, "num_layers": 1, "num_heads": 2},
        "latents": {"kind": "pixels", "side": 8},
    }
    content: dict[str, object] = {
        "kind": "diffusion", "model": model, "data": {"sources": [{"kind": "scenes", "num": 4}]},
        "optimizer": {"learning_rate": 1e-3}, "num_steps": 1, "global_batch_size": 4,
        "micro_batch_size": 4,
    }  # fmt: skip
    for path, value in changes.items():
        name, key = path.split("__")
        content[name] = {**content.get(name, {}), key: value}  # type: ignore[dict-item]
    return content


def test_a_run_whose_settings_contradict_each_other_is_refused() -> None:
    def said(**changes: object) -> str:
        with pytest.raises(ConfigError) as raised:
            parse_config(DiffusionTrainConfig, config(**changes), "my.yaml")
        return str(raised.value)

    parse_config(DiffusionTrainConfig, config(), "my.yaml")
    flow = {"model__schedule": {"kind": "flow"}, "model__prediction": "flow"}
    parse_config(
        DiffusionTrainConfig, config(objective__level_sampling="logit_normal", **flow), "my.yaml"
    )
    assert "weighting min_snr is for" in said(objective__weighting="min_snr", **flow)
    assert "logit_normal is for the flow schedule" in said(objective__level_sampling="logit_normal")
    assert "min_snr_gamma" in said(objective__min_snr_gamma=0.0)
    stories = [{"kind": "stories", "num": 4}]
    assert "sources.0 is of kind stories" in said(data__sources=stories)


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_tables_norms_and_biases_do_not_decay_and_only_blocks_are_muons(kind: NetworkKind) -> None:
    module = objective().requires_grad_()
    module.denoiser = tiny_diffusion(kind).denoiser.requires_grad_()
    names = {id(p): n for n, p in module.named_parameters()}

    def grouped(optimizer: torch.optim.Optimizer) -> dict[float, set[str]]:
        return {g["weight_decay"]: {names[id(p)] for p in g["params"]} for g in
                optimizer.param_groups}  # fmt: skip

    muon = OptimizerConfig(learning_rate=1e-3, kind="muon", weight_decay=0.1)
    plain = OptimizerConfig(learning_rate=1e-3, weight_decay=0.1)
    (adamw,) = build_optimizers(module, plain, fused=False)
    groups = grouped(adamw)
    assert groups[0.1] | groups[0.0] == set(names.values())
    assert all("norm" in n or n.endswith("bias") or "table" in n for n in groups[0.0])
    assert all(n.endswith("weight") for n in groups[0.1])
    if kind == "dit":
        assert sum("scale_shift_table" in n for n in groups[0.0]) == 2
    with_muon = build_optimizers(module, muon, fused=False)
    of_muon = grouped(with_muon[1])[0.1]
    assert all("blocks." in n and "table" not in n for n in of_muon)
    assert any("text_encoder.blocks" in n for n in of_muon)
    assert not any("embedding" in n for n in of_muon)

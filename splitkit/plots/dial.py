"""The dial in a notebook: turn m, see the answer change and where it stands on the measured curves."""

from base64 import b64encode
from html import escape
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.curves.decay import mean_curve
from splitkit.plots.own_data import plot_sweep
from splitkit.steering.generation import answers
from splitkit.steering.interventions import Intervention
from splitkit.steering.pairs import Pair
from splitkit.steering.sweeps import matching_strength, sweep


def dial(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    pairs: list[Pair],
    question: str,
    *,
    reach: float = 4.0,
    strengths: int = 25,
    max_new_tokens: int = 24,
) -> Any:
    """A slider for m, the steered answer to `question`, and `plot_sweep` of the pairs with m marked in it.

    The curves are measured once, when the dial is made; a move writes one answer. Between measured strengths
    only the lines are drawn: the numbers shown are those of the nearest measured one, and say so.

    Args:
        pairs: questions with two answers, for the curves and the matching strength, the slider's unit.
        reach: the slider's largest m, in matching strengths.
        strengths: the number of measured ones, at least 9, from -reach to reach; m = 0 is always there.
        max_new_tokens: as in `sk.answers`.

    Returns:
        An `ipywidgets.VBox`, whose children are the slider, the answer and the curves. It needs the extra
        `splitkit[live]`.
    """
    import ipywidgets

    unit = matching_strength(model, tokenizer, intervention, pairs)
    grid = np.union1d(np.linspace(-reach, reach, strengths), 0.0)
    table = sweep(model, tokenizer, intervention, pairs, m=[float(unit * m) for m in grid])
    figure, curve = plot_sweep(table, unit), mean_curve(table)
    picture, frame = b64encode(figure.png()).decode(), figure.settled()
    measured = curve["m"].to_numpy() / unit

    slider = ipywidgets.FloatSlider(
        value=0.0, min=-reach, max=reach, step=0.05, continuous_update=False,
        description="m", layout=ipywidgets.Layout(width="40rem"),
    )  # fmt: skip
    answer, curves = ipywidgets.HTML(), ipywidgets.HTML()

    def show(_: Any = None) -> None:
        m = float(slider.value)
        (text,) = answers(
            model, tokenizer, [question], intervention=intervention, m=unit * m, max_new_tokens=max_new_tokens
        )
        answer.value = f"<p><b>{escape(question)}</b></p><p>{escape(text) or '(empty)'}</p>"
        nearest = curve.iloc[int(np.abs(measured - m).argmin())]
        place = figure.axes[0].transData.transform((m, 0.0))[0] / figure.dpi
        left = 100 * (place - frame.x0) / frame.width
        curves.value = (
            f"<p>measured at m = {nearest['m'] / unit:.2f}: preference {nearest['preference']:.2f}, "
            f"utility {nearest['utility']:.2f} nats</p><div style='position:relative;max-width:40rem'>"
            f"<img style='width:100%' alt='preference, utility and validity against m' "
            f"src='data:image/png;base64,{picture}'><div style='position:absolute;top:0;bottom:0;"
            f"left:{left:.2f}%;border-left:2px solid #b0203c'></div></div>"
        )

    slider.observe(show, "value")
    show()
    return ipywidgets.VBox([slider, answer, curves])

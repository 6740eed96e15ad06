"""Pictures of the study."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn import metrics

from experiments.hospital_imaging.figures import Interval
from experiments.hospital_imaging.study import Judged
from tff_transfer.data.federated import FederatedData
from tff_transfer.records import diagnostics


def intervals(
    found: Mapping[str, Mapping[str, Interval]], methods: Sequence[str]
) -> Figure:
    """Draws areas with intervals by method, in an order, and a panel a hospital."""
    size = (4 + 3 * len(found), 1 + 0.34 * len(methods))
    figure = Figure(size, layout='constrained')
    panels = figure.subplots(1, len(found), sharey=True, sharex=True, squeeze=False)
    for axes, (hospital, of) in zip(panels[0], found.items(), strict=True):
        for method, (value, low, high) in of.items():
            place = -methods.index(method)
            axes.plot([low, high], [place, place], color='#1f77b4', linewidth=1)
            axes.plot(value, place, 'o', color='#1f77b4', markersize=4)
        axes.set(title=hospital, xlabel='ROC AUC', yticks=-np.arange(len(methods)))
        axes.set_yticklabels(methods)
        axes.grid(alpha=0.3)
    return figure


def roc(judged: Sequence[Judged]) -> Figure:
    """Draws the ROC curves of models for one hospital."""
    figure, axes = _square()
    for each in judged:
        false, true, _ = metrics.roc_curve(*each.test)
        axes.plot(false, true, linewidth=1.2, label=each.method)
    axes.set(xlabel='1 - specificity', ylabel='sensitivity')
    axes.legend(frameon=False, fontsize=7)
    return figure


def reliability(judged: Sequence[Judged]) -> Figure:
    """Draws the reliability curves of models for one hospital."""
    figure, axes = _square()
    for each in judged:
        found = diagnostics.calibration(*each.test)
        axes.plot(
            *found[:2], 'o-', markersize=3, linewidth=1.2,
            label=f'{each.method}: {found.error:.3f}',
        )  # fmt: skip
    axes.set(xlabel='predicted probability', ylabel='share that is positive')
    axes.legend(frameon=False, fontsize=7, title='expected calibration error')
    return figure


def examples(data: FederatedData, client: int, each: int = 4) -> Figure:
    """Draws training images of a hospital, of each class a row."""
    figure = Figure((1.4 * each, 3.2), layout='constrained')
    rows = data.train_rows(client)
    names = data.class_names or ('0', '1')
    for label, panels in enumerate(figure.subplots(2, each, squeeze=False)):
        images = data.x[rows][data.y[rows] == label][:each]
        for axes in panels:
            axes.set_axis_off()
        for axes, image in zip(panels, images, strict=False):
            full = 255 if image.dtype == np.uint8 else 1
            axes.imshow(np.squeeze(image), cmap='gray', vmin=0, vmax=full)
        panels[0].set_title(names[label], fontsize=9, loc='left')
    return figure


def _square() -> tuple[Figure, object]:
    figure = Figure((4, 4), layout='constrained')
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color='#bbbbbb', linewidth=0.8)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.grid(alpha=0.3)
    return figure, axes

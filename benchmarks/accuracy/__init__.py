"""Accuracy on held-out rows: the shipped models beside forests, and an outside network.

    python -m benchmarks.accuracy [--data DIR] [--judge NPZ] [--stars NPZ] [--quick] [--json]

DIR holds galaxies/ and quasars/, each with the `train.npz` and `test.npz` of one split (layout:
`workers.training.cutouts`); without it some hundred galaxies are rendered on the spot, and no page
is written. Weights are the shipped ones of each kind, or `--galaxies FILE`, `--quasars FILE`. All
estimators see the same held-out rows, with magnitudes as they are there:

model                              the shipped weights
magnitudes measured in the stamp   the same, with the magnitudes withheld
forest on magnitudes, on apertures extremely randomised trees, trained on DIR/*/train.npz
mean of the training set           what it takes to know nothing
judge                              a small network that its author trained on real SDSS galaxies,
                                   on cutouts of 61 x 61 pixels without magnitudes; for galaxies

Out of domain: how many held-out rows have the flag, and how many of the same rows spoiled in each
way that `workers.training.spoiled` knows, of stars rendered (DIR/stars.npz) and real (--stars).

Ranges are 95 % bootstrap intervals, drawn by object. Which forests, apertures and metrics, is told
in `docs/evaluation.md`. Rendered galaxies are SIMULATED pixels with real magnitudes and redshifts:
the judge, which has seen real ones only, says whether light, colour and sky of them are like those.
"""

"""Decision trees and random forests on binned data.

Bottom up: `kernels` (histograms and cuts), `binning`, `targets` and `weights` (whole numbers), `growth` (one tree),
`forest` (all trees, as tasks), `fitted` (trees in the values of the data), `learning` (the fit), and the estimators.
"""

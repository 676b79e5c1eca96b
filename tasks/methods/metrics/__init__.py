"""Scores of Dask arrays without gathering them; names, parameters and results are scikit-learn's.

Any mixture of NumPy and Dask arrays is taken, in any chunks. If all of them are NumPy the work is scikit-learn's own.
"""

from tasks.methods.metrics.classification import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)
from tasks.methods.metrics.clustering import (
    adjusted_rand_score,
    homogeneity_completeness_v_measure,
    normalized_mutual_info_score,
)
from tasks.methods.metrics.ranking import log_loss, roc_auc_score
from tasks.methods.metrics.regression import (
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)
from tasks.methods.metrics.silhouette import silhouette_samples, silhouette_score

__all__ = [
    "accuracy_score",
    "adjusted_rand_score",
    "balanced_accuracy_score",
    "confusion_matrix",
    "f1_score",
    "homogeneity_completeness_v_measure",
    "log_loss",
    "matthews_corrcoef",
    "mean_absolute_error",
    "mean_squared_error",
    "normalized_mutual_info_score",
    "precision_recall_fscore_support",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "root_mean_squared_error",
    "silhouette_samples",
    "silhouette_score",
]

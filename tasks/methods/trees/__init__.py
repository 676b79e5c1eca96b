"""Decision trees and random forests on binned data: see `tasks.methods.trees.estimators`."""

"""Data: datasets, and a loader that hands them out in batches and can stop and go on anywhere."""

from . import datasets
from .dataset import Dataset, Subset, TensorDataset, random_split
from .fetch import DownloadError, download
from .loader import DataLoader

__all__ = ["DataLoader", "Dataset", "DownloadError", "Subset", "TensorDataset", "datasets", "download", "random_split"]

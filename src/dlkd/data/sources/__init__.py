"""Where images come from: data sets by name, folders, tables, archives and objects."""

from dlkd.data.sources.arrays import cifar, digits, npz
from dlkd.data.sources.choose import NAMES, check_source_name, has_columns, in_folders, open_source
from dlkd.data.sources.folders import folder, unlabelled_files
from dlkd.data.sources.huggingface import hugging_face
from dlkd.data.sources.objects import from_dataset
from dlkd.data.sources.official import OFFICIAL, official
from dlkd.data.sources.shards import webdataset
from dlkd.data.sources.source import Source, in_memory
from dlkd.data.sources.table import table

__all__ = [
    "NAMES",
    "OFFICIAL",
    "Source",
    "check_source_name",
    "cifar",
    "digits",
    "folder",
    "from_dataset",
    "has_columns",
    "hugging_face",
    "in_folders",
    "in_memory",
    "npz",
    "official",
    "open_source",
    "table",
    "unlabelled_files",
    "webdataset",
]

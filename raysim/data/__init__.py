"""Sources, cleaning, partitioners and the shard store. Knows nothing of algorithms.

`prepare` turns the `data` section of an experiment into a spec: a small picklable value from which any worker opens the
same federation, memory-mapped from disk or made client by client. `describe` sums it up.
"""

from raysim.data.build import prepare
from raysim.data.dataset import Columns, Dataset, Pool
from raysim.data.federation import ClientPart, DataInfo, Federation, FederationSpec, Samples, ServerPart
from raysim.data.importing import import_dataset
from raysim.data.partition import PARTITIONERS, Partition
from raysim.data.pooled import PooledFederation, PooledSpec
from raysim.data.rows import source_rows
from raysim.data.scaling import TargetScaling
from raysim.data.sources import SOURCES, from_arrays
from raysim.data.sources.corpus import TextCodec
from raysim.data.sources.ragged import padded
from raysim.data.store import ArrowFederation, StoreSpec
from raysim.data.summary import Summary, describe
from raysim.data.transforms.windows import windows
from raysim.data.virtual import VirtualFederation, VirtualSpec

__all__ = [
    "PARTITIONERS",
    "SOURCES",
    "ArrowFederation",
    "ClientPart",
    "Columns",
    "DataInfo",
    "Dataset",
    "Federation",
    "FederationSpec",
    "Partition",
    "Pool",
    "PooledFederation",
    "PooledSpec",
    "Samples",
    "ServerPart",
    "StoreSpec",
    "Summary",
    "TargetScaling",
    "TextCodec",
    "VirtualFederation",
    "VirtualSpec",
    "describe",
    "from_arrays",
    "import_dataset",
    "padded",
    "prepare",
    "source_rows",
    "windows",
]

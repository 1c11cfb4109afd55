"""Shards on disk: Arrow IPC files, memory-mapped, the samples of a client side by side.

A store is a folder: `train.arrow` (x, y and perhaps weight; client after client, each client's held-out samples after
its training samples; record batches never split a client), `validation.arrow` and `test.arrow` for the server,
`index.arrow` (offset, length, holdout and perhaps the owner of each client), `histograms.arrow` (label counts),
`tests.arrow` (where clients own samples of the test set: their rows in it, client after client, with the counts in the
index), and `manifest.json`, which says what the files must look like.
"""

from raysim.data.store.manifest import FORMAT_VERSION, Manifest
from raysim.data.store.reader import ArrowFederation, StoreSpec
from raysim.data.store.writer import BATCH_BYTES, StoreWriter, cut

__all__ = ["BATCH_BYTES", "FORMAT_VERSION", "ArrowFederation", "Manifest", "StoreSpec", "StoreWriter", "cut"]

"""Text for language models: documents with owners, tokenised once into files that are mapped, cut into samples.

`records` reads files, `documents` checks their fields, `tokenizers` turns text into ids, `token_files` keeps the ids in
the cache, `sequences` cuts samples of a fixed length from them, and `load` is the source. `codec` reads prompts and
writes text.
"""

from raysim.data.sources.corpus.codec import TextCodec
from raysim.data.sources.corpus.load import corpus_identity, load_corpus

__all__ = ["TextCodec", "corpus_identity", "load_corpus"]

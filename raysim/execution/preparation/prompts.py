"""What a run has its model write: the prompts of `evaluation.generate`, read by the tokenizer of its corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysim.config import Experiment
from raysim.data import DataInfo, TextCodec
from raysim.data.build import codec
from raysim.errors import ConfigError, DataError
from raysim.rounds.ranges import Continuation, PromptRange


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts, and who turns what the model wrote into text.

    Attributes:
        texts: of the prompts.
        ranges: of an evaluation that has the model write behind each of them.
    """

    texts: tuple[str, ...]
    ranges: tuple[PromptRange, ...]
    codec: TextCodec

    @classmethod
    def of(cls, experiment: Experiment, info: DataInfo) -> Prompts | None:
        """The configuration's; None where nothing is to be written.

        Raises:
            ConfigError: the data is no language to learn, or a prompt is longer than a sample, or cannot be read.
        """
        config = experiment.evaluation.generate
        if config is None:
            return None
        reads = codec(experiment.data)
        if reads is None:
            raise ConfigError(
                "evaluation.generate: needs data.source corpus with task causal_lm, whose tokenizer reads and writes "
                f"the text; the source is {experiment.data.source.name}"
            )
        length, ranges = info.target_shape[0], []
        for number, text in enumerate(config.prompts):
            place = f"evaluation.generate.prompts[{number}]"
            try:
                ids = reads.prompt(text)
            except DataError as error:
                raise ConfigError(f"{place}: {error}") from None
            if not 0 < len(ids) <= length:
                raise ConfigError(f"{place}: has {len(ids):,} tokens; data.source.length allows 1 to {length:,}")
            ranges.append(PromptRange(number, ids, config.tokens, config.temperature, reads.end))
        return cls(config.prompts, tuple(ranges), reads)

    def read(self, written: Sequence[Continuation]) -> list[str]:
        """The text behind each prompt, by the prompts' numbers."""
        by_number = {one.prompt: one.ids for one in written}
        return [self.codec.text(part.ids, by_number[part.prompt]) for part in self.ranges]

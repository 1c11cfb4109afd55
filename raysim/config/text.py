"""Text for language models: the `corpus` source of `data.source`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from raysim.config.base import Section
from raysim.config.bounds import UNITS

WITHOUT_LIBRARY = ("characters", "bytes")
"""Tokenizers that need no Hugging Face library."""

TextInput = Literal["attention_mask", "segments", "position_ids"]


class CorpusConfig(Section):
    """Documents with owners, tokenised once: to train a language model, to follow instructions, to prefer one answer to
    another, or to classify."""

    name: Literal["corpus"] = "corpus"
    path: str | None = None
    """File, folder or glob pattern of the documents, or with `format: hub` the name of a Hugging Face data set; by
    default the bundled Shakespeare, or pairs of answers made of it."""
    format: Literal["auto", "jsonl", "json", "parquet", "text", "hub"] = "auto"
    """`jsonl`: an object a line. `json`: `{client: text}`, or a list of objects. `parquet`: a row a document. `text`: a
    file a document. `hub`: a data set of Hugging Face's `datasets`, saved in a folder or by name. `auto`: by the ending
    of the files (plain or gzipped), and `hub` for a folder that `save_to_disk` wrote."""
    split: str | None = None
    """Of `format: hub`: part of the data set, by default `train`."""
    test: str | None = None
    """Documents to test on, given like `path`, or with `format: hub` another split; without it `data.test` is split
    off. Clients are evaluated on those of theirs."""
    text: str = "text"
    """Field of a document's text."""
    prompt: str | None = None
    """Field of an instruction, whose tokens the loss leaves out; with `response`, instead of `text`. Of `preference`
    the field of what both answers answer, by default `prompt`."""
    response: str | None = None
    """Field of the answer, from which alone is learned."""
    chosen: str = "chosen"
    """Field of the better answer, for `task: preference`."""
    rejected: str = "rejected"
    """Field of the other answer."""
    messages: str | None = None
    """Field of a conversation, a list of objects with `role` and `content`, instead of `text`, written by the
    tokenizer's chat template; what the assistant says is learned."""
    template: str | None = None
    """How prompt and response become one text, such as `"Q: {prompt}\\nA: {response}"`; by default the tokenizer's chat
    template, or the prompt, a line break and the response where it has none."""
    label: str | None = None
    """Field of the class, for `task: classification`; for `causal_lm` of the kind of text, by which partitions by label
    deal, and of which each packed sample has one."""
    client: str | None = None
    """Field of the owner, by default `client` where documents have one; `file` and `folder` are those that a document
    came from, unless it has such a field."""
    tokenizer: str = "characters"
    """`characters` (all that occur), `bytes` (UTF-8), or a Hugging Face tokenizer: its folder, its `tokenizer.json`, or
    its name."""
    end_of_text: str | None = None
    """Token that ends a document, by default the tokenizer's own; conversations end as the chat template has it."""
    task: Literal["causal_lm", "classification", "preference"] = "causal_lm"
    """`causal_lm`: the next token at every position. `classification`: one label a document. `preference`: which of two
    answers to a prompt is the better one, for `training.loss: dpo`."""
    length: int = Field(128, ge=2, le=UNITS)
    """Tokens of a sample; of `preference` those of a prompt and an answer."""
    packing: bool | None = None
    """Documents of an owner one after another, cut into full samples (the default of `causal_lm`). Without it a
    document is a sample, truncated or padded."""
    inputs: tuple[TextInput, ...] | None = None
    """What a sample has beside its tokens. `attention_mask`: 0 on padding. `segments` (with packing): which document a
    token is of, 1, 2, …, 0 on padding. `position_ids` (with `segments`): 0, 1, … within each. By default the mask for
    classification, and nothing for `causal_lm`, where padding comes last and has weight 0."""
    min_characters: int = Field(0, ge=0)
    """Owners with less text are left out."""
    download: bool = False
    """Allow Hugging Face's libraries to fetch a data set or a tokenizer that is given by its name."""

    @property
    def packed(self) -> bool:
        """Whether samples are cut from documents one after another."""
        return self.task == "causal_lm" if self.packing is None else self.packing

    @property
    def beside(self) -> tuple[TextInput, ...]:
        """What a sample has beside its tokens."""
        if self.inputs is not None:
            return self.inputs
        return ("attention_mask",) if self.task == "classification" else ()

    @property
    def asked(self) -> str | None:
        """Field of an instruction; None where documents have none."""
        return self.prompt or ("prompt" if self.task == "preference" else None)

    @property
    def answered(self) -> str | None:
        """Field of the answer, of two answers the better one; None where documents have none."""
        return self.chosen if self.task == "preference" else self.response

    @model_validator(mode="after")
    def _pairs_have_no_other_form(self) -> CorpusConfig:
        if self.task == "preference":
            for key in ("response", "messages", "label", "packing", "inputs"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: task: preference has prompt, chosen and rejected, each pair one sample; "
                                     f"remove {key}")  # fmt: skip
            if self.text != "text":
                raise ValueError("text: task: preference has prompt, chosen and rejected in its place; remove text")
        elif (self.chosen, self.rejected) != ("chosen", "rejected"):
            raise ValueError("chosen and rejected are the answers of task: preference; set it, or remove them")
        return self

    @model_validator(mode="after")
    def _fields_suit_the_task(self) -> CorpusConfig:
        classes = self.task == "classification"
        if classes and self.label is None:
            raise ValueError("task: classification needs `label`, the field of the class")
        if (self.prompt is None) != (self.response is None) and self.task != "preference":
            raise ValueError("prompt and response come together; give both, or `text` alone")
        if self.prompt is not None and (classes or self.text != "text"):
            other = "task: classification" if classes else "text"
            raise ValueError(f"prompt and response take the place of `text`, for causal_lm; remove them, or {other}")
        if self.messages is not None and (classes or self.prompt is not None or self.text != "text"):
            other = "task: classification" if classes else "text, prompt and response"
            raise ValueError(f"messages take the place of `text`, for causal_lm; remove them, or {other}")
        if self.template is not None:
            if self.asked is None:
                raise ValueError("template joins prompt and response; give these fields, or remove it")
            if re.findall(r"\{(prompt|response)\}", self.template) != ["prompt", "response"]:
                raise ValueError("template must have {prompt}, and after it {response}, once each")
        return self

    @model_validator(mode="after")
    def _samples_fit_together(self) -> CorpusConfig:
        if self.path is None and (self.format != "auto" or self.split is not None):
            raise ValueError("format and split are of the files that `path` names; give path, or remove them")
        if self.task == "classification" and self.packing:
            raise ValueError("packing is for causal_lm; a sample to classify is one document, remove it")
        if len(set(self.beside)) < len(self.beside):
            raise ValueError("inputs: one is named twice")
        if "segments" in self.beside and not self.packed:
            raise ValueError("inputs: segments part the documents of a packed sample; set packing: true, or remove it")
        if "position_ids" in self.beside and "segments" not in self.beside:
            raise ValueError("inputs: position_ids begin anew with each segment; add segments, or remove it")
        if self.end_of_text is not None and (self.tokenizer in WITHOUT_LIBRARY or self.task == "classification"):
            why = self.tokenizer if self.tokenizer in WITHOUT_LIBRARY else "classification"
            raise ValueError(f"end_of_text: {why} knows no such token; remove it")
        if self.download and self.format != "hub" and self.tokenizer in WITHOUT_LIBRARY:
            raise ValueError("download: nothing here has a name on the Hugging Face hub; remove it")
        return self

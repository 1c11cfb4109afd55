"""What is tried of each key: `key | value | base`, the base as overrides of `outcomes.BASE`, parted by semicolons.

The base of an option of a choice, `model=mlp.hidden`, makes that choice by itself. A choice without a line of its own
is compared with the base's. `data:KIND` in a base says what samples there are (`outcomes.arrays`), `@name` stands for
one of `BASES`, and a line that is indented goes on with the one before.
"""

from __future__ import annotations

import re

UNEVEN = "systems.fleet={name: log_normal, speed: 10, sigma: 1}; rounds=6; data.partition={name: quantity, clients: 6}"
BASES = {
    "@csv": "data.source={name: csv, path: <FOLDER>/a.csv, label: label, ignore: [kind]}",
    "@days": "data.source={name: csv, path: <FOLDER>/days.csv, label: label, ignore: [other]}",
    "@kinds": "data.source={name: csv, path: <FOLDER>/a.csv, label: label}",
    "@numbers": "data.source={name: csv, path: <FOLDER>/a.csv, label: number, ignore: [kind], task: regression}",
    "@series": "data.source={name: csv, path: <FOLDER>/a.csv, label: number, ignore: [kind], task: regression}; "
    "data.holdout=0; data.validation=0; data.test=0; data.transforms=[{name: windows, length: 2}]",
    "@idx": "data.source.features=<FOLDER>/mnist-a/train-images-idx3-ubyte; "
    "data.source.labels=<FOLDER>/mnist-a/train-labels-idx1-ubyte",
    "@text": "data.source.path=<FOLDER>/a.json; data.source.sequence_length=8; model={name: lstm_char, hidden: 4}",
    "@corpus": "data.source.path=<FOLDER>/a.json; data.source.length=8; model={name: lstm_char, hidden: 4}",
    "@writing": "data.source={name: corpus, path: <FOLDER>/a.json, length: 8}; model={name: lstm_char, hidden: 4}; "
    "evaluation.generate={prompts: [ab], tokens: 9}",
    "@bert": "data.source={name: corpus, path: <FOLDER>/documents.jsonl, task: classification, label: group, "
    "length: 12, tokenizer: bytes}; model={name: hugging_face, task: encoder, config: {model_type: bert, "
    "hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 1}}",
    "@pairs": "data.source={name: corpus, path: <FOLDER>/documents.jsonl, task: preference, prompt: asked, "
    "chosen: text, rejected: more, length: 12, tokenizer: bytes}; model={name: hugging_face, peft: {name: lora, r: 2}, "
    "config: {model_type: gpt2, n_embd: 8, n_layer: 1, n_head: 1}}",
    "@documents": "data.source.path=<FOLDER>/documents.jsonl; data.source.length=8; data.source.tokenizer=bytes; "
    "model={name: lstm_char, hidden: 4}",
    "@classes": "data.source={name: corpus, path: <FOLDER>/documents.jsonl, task: classification, label: group, "
    "length: 8, tokenizer: bytes}; model.name=own_code:Bag",
    "@shares": "data.partition={name: label_shares, shares: [[0.4, 0.4, 0.2], [0.3, 0.3, 0.4]]}",
    "@synthetic": "data.source.clients=4; data.source.sigma=0.1; data.partition=natural",
    "@oort": "data.partition={name: quantity, clients: 8}; "
    "rounds=10; "
    "selection.exploration=1; "
    "selection.exploration_decay=0.8; "
    "selection.exploration_floor=0; "
    "selection.cutoff=1",
    "@skewed": "data.partition={name: dirichlet, clients: 2, min_size: 2}",
    "@unequal": "data.partition={name: quantity, clients: 4}",
    "@adaptive": "aggregation.weights=uniform; aggregation.stages=[adaptive_clip]",
    "@gaussian": "aggregation.weights=uniform; "
    "aggregation.stages=[{name: clip, max_norm: 0.1}, {name: gaussian, noise_multiplier: 1}]",
    "@tree": "aggregation.weights=uniform; selection=round_robin; "
    "aggregation.stages=[{name: clip, max_norm: 0.1}, {name: tree, noise_multiplier: 1}]",
    "@bsr": "aggregation.weights=uniform; selection=round_robin; "
    "aggregation.stages=[{name: clip, max_norm: 0.1}, {name: bsr, noise_multiplier: 1, bands: 2}]",
    "@blt": "aggregation.weights=uniform; selection=round_robin; rounds=6; cohort=1; "
    "aggregation.stages=[{name: clip, max_norm: 0.1}, {name: blt, noise_multiplier: 1}]",
    "@masked": "aggregation.weights=uniform; aggregation.stages=[{name: clip, max_norm: 0.1}]; "
    "aggregation.protection={name: secagg, bits: 16, clip: 1.0}",
    "@skellam": "aggregation.weights=uniform; aggregation.protection={name: secagg, bits: 16, clip: 1.0}; "
    "aggregation.stages=[{name: clip, max_norm: 0.1}, {name: skellam, noise_multiplier: 0.01}]",
    "@lora": "model={name: mlp_lora, hidden: [6], rank: 2}",
    "@mlp": "model={name: mlp, hidden: [6]}",
    "@hierarchy": "algorithm=hierfavg; rounds=4; cohort=4; systems.fleet={name: log_normal, speed: 10}",
    "@nodes": "cohort=1.0; aggregation.weights=uniform",
    "@noise": "selection=poisson; aggregation.weights=uniform; aggregation.stages=[{name: clip, max_norm: 0.1}, "
    "{name: 'prototype_stages:Accounted', args: {noise_multiplier: 3}}]",
    "@devices": "systems.fleet={name: log_normal, speed: 10, sigma: 1}",
    "@uneven": UNEVEN,
    "@fedbuff": f"{UNEVEN}; systems.timetable={{name: fedbuff, buffer: 2, in_flight: 4}}",
    "@fedasync": f"{UNEVEN}; systems.timetable={{name: fedasync, in_flight: 4}}",
    "@far": "systems.fleet={name: log_normal, speed: 10, sigma: 1, upload: 1000, download: 3000}",
    "@kinds_of_devices": "systems.fleet={name: tiers, tiers: [{share: 0.5, speed: 3}, {share: 0.5, speed: 9}]}",
    "@recorded": "systems.fleet={name: trace, path: <FOLDER>/devices.csv}",
    "@private": "client.steps=3; client.privacy={clip: 0.5, noise_multiplier: 0.3}",
}
"""What several bases have in common."""

# What a run comes to shows it: model, metrics, cohorts, files, notes, or a refusal.
RUNS = """
selection=uniform | uniform | selection=poisson
model=softmax | softmax | model=mlp
model=in_memory | in_memory |
model=in_memory.fingerprint | 123 | module:given
client.schedule=constant | constant | client.schedule=warmup
client.resampling=none | none | client.resampling=balanced
training.class_weights=none | none | training.class_weights=inverse
training.logits=plain | plain | training.logits=adjusted
aggregation.weights=uniform | uniform | @unequal
aggregation.weights=samples | samples | @unequal; aggregation.weights=uniform
aggregation.weights=samples.cap | 8 | @unequal
name | another |
seed | 1 |
rounds | 2 |
cohort | 3 |
selection=clustered.clusters | 2 | selection.clusters=3; data.partition={name: shards, clients: 8}; cohort=4
selection=clustered.iterations | 1 | data.source={name: synthetic, clients: 30, sigma: 0.1};
    data.partition=natural; selection.clusters=5; cohort=8; client.steps=1; rounds=1; data.holdout=0
selection=power_of_choice.candidates | 4 | cohort=1
selection=oort.exploration | 0.0 | data.partition.clients=8; rounds=5
selection=oort.exploration_decay | 0.01 | data.partition.clients=8; rounds=8; selection.exploration_floor=0
selection=oort.exploration_floor | 0.99 | data.partition.clients=8; rounds=8; selection.exploration_decay=0.01
selection=oort.alpha | 0 | @oort; selection.percentile=0; selection.alpha=9
selection=oort.percentile | 100 | @oort; selection.percentile=0; selection.alpha=9
selection=oort.pacer_step | 100 | @oort; selection.percentile=0; selection.alpha=9; selection.window=1;
    selection.pacer_step=0
selection=oort.window | 1 | @oort; selection.percentile=0; selection.alpha=9; selection.pacer_step=100
selection=oort.cutoff | 0 | @oort
selection=oort.clip | 1 | @oort; selection.alpha=0; selection.clip=100
selection=custom | {name: "own_code:Window"} |
selection=custom.args | {shift: 1} | selection.name=own_code:Window
model=softmax.weights | <FOLDER>/softmax.safetensors |
model=softmax.bias | false |
model=mlp.weights | <FOLDER>/softmax.safetensors | model.hidden=[6]
model=mlp.hidden | [5] | model.hidden=[6]
model=mlp.dropout | 0.5 | model.hidden=[6]
model=mlp_lora.weights | <FOLDER>/softmax.safetensors | model.hidden=[6]; model.rank=2
model=mlp_lora.hidden | [5] | model.hidden=[6]; model.rank=2
model=mlp_lora.rank | 1 | model.hidden=[6]; model.rank=2
model=mlp_lora.alpha | 1 | model.hidden=[6]; model.rank=2
model=cnn | cnn | data:images; client.steps=1; rounds=1
model=cnn.weights | <FOLDER>/softmax.safetensors | data:images; client.steps=1; rounds=1
model=cnn_cifar | cnn_cifar | data:photos; client.steps=1; rounds=1
model=cnn_cifar.weights | <FOLDER>/softmax.safetensors | data:photos; client.steps=1; rounds=1
model=cnn_cifar.dropout | false | data:photos; client.steps=1; rounds=1
model=resnet18_gn | {name: resnet18_gn, width: 2} | data:photos; client.steps=1; rounds=1
model=resnet18_gn.weights | <FOLDER>/softmax.safetensors | data:photos; model.width=2; client.steps=1; rounds=1
model=resnet18_gn.groups | 1 | data:photos; model.width=2; client.steps=1; rounds=1
model=resnet18_gn.width | 4 | data:photos; model.width=2; client.steps=1; rounds=1
model=lstm_char | {name: lstm_char, hidden: 4} | data:tokens
model=lstm_char.weights | <FOLDER>/softmax.safetensors | data:tokens; model.hidden=4
model=lstm_char.embedding | 3 | data:tokens; model.hidden=4
model=lstm_char.hidden | 5 | data:tokens; model.hidden=4
model=lstm_char.layers | 1 | data:tokens; model.hidden=4
model=custom | {name: "own_code:network"} |
model=custom.weights | <FOLDER>/softmax.safetensors | model.name=own_code:network
model=custom.args | {units: 3} | model.name=own_code:network
client.optimizer=sgd | {name: sgd, lr: 0.2} |
client.optimizer=sgd.lr | 0.2 |
client.optimizer=sgd.weight_decay | 0.1 |
client.optimizer=sgd.momentum | 0.5 |
client.optimizer=sgd.nesterov | true | client.optimizer.momentum=0.5
client.optimizer=sgd.state | keep | client.optimizer.momentum=0.5
client.optimizer=adam.state | keep |
client.optimizer=adam.lr | 0.2 |
client.optimizer=adam.weight_decay | 0.1 |
client.optimizer=adam.beta1 | 0.5 |
client.optimizer=adam.beta2 | 0.5 |
client.optimizer=adam.epsilon | 0.1 |
client.schedule=exponential.gamma | 0.5 |
client.schedule=exponential.every | 2 |
client.schedule=cosine.floor | 0.5 |
client.schedule=warmup.rounds | 2 |
client.schedule=steps | {name: steps, warmup: 4} | client.steps=3
client.schedule=steps.warmup | 4 | client.steps=3
client.schedule=steps.then | linear | client.steps=3
client.schedule=steps.floor | 0.5 | client.steps=3; client.schedule.then=linear
client.schedule=steps.total | 5 | client.steps=3; client.schedule.then=linear
client.batch_size | full |
client.epochs | 2 |
client.steps | 1 |
client.clip_norm | 0.01 |
client.buckets | 2 | @bert
client.groups.match | [{match: ["*.weight"], lr_scale: 3}] | client.groups=[{match: ["*.bias"], lr_scale: 3}]
client.groups.lr_scale | [{match: ["*.bias"], lr_scale: 3}] | client.groups=[{match: ["*.bias"]}]
client.groups.weight_decay | [{match: ["*.bias"], weight_decay: 1}] | client.groups=[{match: ["*.bias"]}]
client.groups.clip_norm | [{match: ["*.bias"], clip_norm: 0.01}] | client.groups=[{match: ["*.bias"]}]
client.accumulation | 5 |
client.drop_last | true |
client.privacy.clip | 0.01 | @private
client.privacy.noise_multiplier | 2 | @private
client.privacy.largest_batch | 2 | @private; client.batch_size=2; client.privacy.largest_batch=30
client.resampling=balanced | balanced | @skewed
client.resampling=capped | {name: capped, ratio: 1} |
    data.partition={name: dirichlet, clients: 2, min_size: 2, alpha: 0.2}
client.resampling=capped.ratio | 1 | @skewed
client.resampling=capped.cap | 2 | @skewed
client.stragglers.share | 0.9 | client.epochs=3
client.stragglers.keep | false | client.epochs=3; client.stragglers.share=0.9
training.loss | focal |
training.auxiliary | {side: 0.5} | model.name=own_code:TwoOutputs
training.huber_delta | 0.1 | data:numbers; training.loss=huber
training.focal_gamma | 1 | training.loss=focal
training.dpo_beta | 1 | @pairs
training.class_weights=inverse.scope | client |
training.class_weights=effective.scope | client |
training.class_weights=effective.beta | 0.1 |
training.class_weights=explicit | {name: explicit, table: {0: 3}} |
training.class_weights=explicit.table | {0: 9} | training.class_weights.table={0: 3}
training.class_weights=explicit.default | 9 | training.class_weights.table={0: 3}
training.logits=adjusted.tau | 2 |
training.logits=fedlc.tau | 2 |
training.logits=fedrs | fedrs | data.partition={name: classes, clients: 4}
training.logits=fedrs.alpha | 0.1 | data.partition={name: classes, clients: 4}
training.engine | rows | client.clip_norm=1; client.epochs=3; rounds=6
training.precision | bf16 |
training.compile | true | training.engine=sequential
aggregation.weights=loss.low | 1.0 |
aggregation.weights=loss.high | 1.0 |
aggregation.weights=explicit | {name: explicit, table: {0: 9, 1: 1}, default: 1} |
aggregation.weights=explicit.table | {0: 9, 1: 1} | aggregation.weights={name: explicit, table: {0: 1}, default: 1}
aggregation.weights=explicit.default | 9 | aggregation.weights={name: explicit, table: {0: 1}, default: 1}
aggregation.weights=law | {name: law, loss: 3} |
aggregation.weights=law.samples | 3 | @unequal
aggregation.weights=law.loss | 3 |
aggregation.weights=law.staleness | 1 | @fedbuff
aggregation.weights=law.low | 1.1 | aggregation.weights.loss=3
aggregation.weights=law.high | 0.9 | aggregation.weights.loss=3
aggregation.weights=learned | {name: learned, trials: 3} |
aggregation.weights=learned.base | uniform | aggregation.weights.trials=3; @unequal; aggregation.weights.every=2
aggregation.weights=learned.every | 2 | aggregation.weights.trials=3
aggregation.weights=learned.trials | 3 | aggregation.weights.trials=2;
    aggregation.weights.chooser=own_code:by_trials; cohort=4
aggregation.weights=learned.budget | 1 | aggregation.weights.trials=3
aggregation.weights=learned.chooser | own_code:keep | aggregation.weights.trials=3
aggregation.stages=canaries | [{name: canaries, first: 0}] |
aggregation.stages=canaries.first | [{name: canaries, first: 0}] | aggregation.stages=[{name: canaries, first: 1}]
aggregation.stages=canaries.norm | [{name: canaries, first: 0, norm: 2}] |
    aggregation.stages=[{name: canaries, first: 0}]
aggregation.stages=canaries.silent | [{name: canaries, first: 0, silent: 0.999}] |
    aggregation.stages=[{name: canaries, first: 0}]
aggregation.stages=zero | [zero] |
aggregation.stages=zero.max_norm | [{name: zero, max_norm: 0.001}] | aggregation.stages=[zero]
aggregation.stages=clip | [{name: clip, max_norm: 0.01}] |
aggregation.stages=clip.max_norm | [{name: clip, max_norm: 0.02}] | aggregation.stages=[{name: clip, max_norm: 0.01}]
aggregation.stages=clip.order | [{name: clip, max_norm: 0.02, order: 1}] |
    aggregation.stages=[{name: clip, max_norm: 0.02}]
aggregation.stages=adaptive_clip | [adaptive_clip] | aggregation.weights=uniform
aggregation.stages=adaptive_clip.initial_norm | [{name: adaptive_clip, initial_norm: 0.02}] | @adaptive
aggregation.stages=adaptive_clip.quantile | [{name: adaptive_clip, quantile: 0.9}] | @adaptive
aggregation.stages=adaptive_clip.learning_rate | [{name: adaptive_clip, learning_rate: 0.9}] | @adaptive
aggregation.stages=adaptive_clip.fraction_noise | [{name: adaptive_clip, fraction_noise: 0.5}] | @adaptive
aggregation.stages=adaptive_clip.generator | [{name: adaptive_clip, generator: system}] | @adaptive
aggregation.stages=layer_clip | [{name: layer_clip, max_norm: 0.01}] |
aggregation.stages=layer_clip.max_norm | [{name: layer_clip, max_norm: 0.02}] |
    aggregation.stages=[{name: layer_clip, max_norm: 0.01}]
aggregation.stages=layer_clip.bounds | [{name: layer_clip, bounds: {"*": 0.02}}] |
    aggregation.stages=[{name: layer_clip, max_norm: 0.01}]
aggregation.stages=gaussian | [{name: clip, max_norm: 0.1}, {name: gaussian, noise_multiplier: 1}] |
    aggregation.stages=[{name: clip, max_norm: 0.1}]; aggregation.weights=uniform
aggregation.stages=gaussian.noise_multiplier | [{name: clip, max_norm: 0.1}, {name: gaussian, noise_multiplier: 2}] |
    @gaussian
aggregation.stages=gaussian.generator |
    [{name: clip, max_norm: 0.1}, {name: gaussian, noise_multiplier: 1, generator: system}] | @gaussian
aggregation.stages=tree | [{name: clip, max_norm: 0.1}, {name: tree, noise_multiplier: 1}] |
    @gaussian; selection=round_robin
aggregation.stages=tree.noise_multiplier | [{name: clip, max_norm: 0.1}, {name: tree, noise_multiplier: 2}] | @tree
aggregation.stages=tree.restart | [{name: clip, max_norm: 0.1}, {name: tree, noise_multiplier: 1, restart: 2}] |
    @tree; rounds=3
aggregation.stages=bsr | [{name: clip, max_norm: 0.1}, {name: bsr, noise_multiplier: 1, bands: 2}] | @tree; rounds=3
aggregation.stages=bsr.noise_multiplier | [{name: clip, max_norm: 0.1}, {name: bsr, noise_multiplier: 2, bands: 2}] |
    @bsr
aggregation.stages=bsr.bands | [{name: clip, max_norm: 0.1}, {name: bsr, noise_multiplier: 1, bands: 3}] |
    @bsr; rounds=3
aggregation.stages=bsr.generator | [{name: clip, max_norm: 0.1},
    {name: bsr, noise_multiplier: 1, bands: 2, generator: system}] |
    @bsr
aggregation.stages=blt | [{name: clip, max_norm: 0.1}, {name: blt, noise_multiplier: 1}] | @tree; rounds=6; cohort=1
aggregation.stages=blt.noise_multiplier | [{name: clip, max_norm: 0.1}, {name: blt, noise_multiplier: 2}] | @blt
aggregation.stages=blt.buffers | [{name: clip, max_norm: 0.1}, {name: blt, noise_multiplier: 1, buffers: 1}] | @blt
aggregation.stages=blt.output_scale | [{name: clip, max_norm: 0.1},
    {name: blt, noise_multiplier: 1, output_scale: [0.2], buf_decay: [0.5]}] |
    @blt
aggregation.stages=blt.buf_decay | [{name: clip, max_norm: 0.1},
    {name: blt, noise_multiplier: 1, output_scale: [0.2], buf_decay: [0.6]}] |
    @blt
aggregation.stages=blt.generator | [{name: clip, max_norm: 0.1}, {name: blt, noise_multiplier: 1, generator: system}] |
    @blt
aggregation.stages=local_gaussian | [{name: clip, max_norm: 0.1}, {name: local_gaussian, noise_multiplier: 1}] |
    @gaussian
aggregation.stages=local_gaussian.noise_multiplier | [{name: clip, max_norm: 0.1},
    {name: local_gaussian, noise_multiplier: 2}] | aggregation.weights=uniform;
    aggregation.stages=[{name: clip, max_norm: 0.1}, {name: local_gaussian, noise_multiplier: 1}]
aggregation.stages=local_laplace | [{name: clip, max_norm: 0.1, order: 1},
    {name: local_laplace, noise_multiplier: 1}] | @gaussian
aggregation.stages=local_laplace.noise_multiplier | [{name: clip, max_norm: 0.1, order: 1},
    {name: local_laplace, noise_multiplier: 2}] | aggregation.weights=uniform;
    aggregation.stages=[{name: clip, max_norm: 0.1, order: 1}, {name: local_laplace, noise_multiplier: 1}]
aggregation.stages=discrete_gaussian | [{name: clip, max_norm: 0.1},
    {name: discrete_gaussian, noise_multiplier: 0.01}] | @masked
aggregation.stages=discrete_gaussian.noise_multiplier | [{name: clip, max_norm: 0.1},
    {name: discrete_gaussian, noise_multiplier: 0.02}] | @masked; aggregation.stages=[{name: clip, max_norm: 0.1},
    {name: discrete_gaussian, noise_multiplier: 0.01}]
aggregation.stages=discrete_gaussian.shares | [{name: clip, max_norm: 0.1},
    {name: discrete_gaussian, noise_multiplier: 0.01, shares: 0.3}] | @masked;
    aggregation.stages=[{name: clip, max_norm: 0.1}, {name: discrete_gaussian, noise_multiplier: 0.01}]
aggregation.stages=skellam | [{name: clip, max_norm: 0.1}, {name: skellam, noise_multiplier: 0.01}] | @masked
aggregation.stages=skellam.noise_multiplier | [{name: clip, max_norm: 0.1},
    {name: skellam, noise_multiplier: 0.02}] | @skellam
aggregation.stages=skellam.shares | [{name: clip, max_norm: 0.1},
    {name: skellam, noise_multiplier: 0.01, shares: 0.3}] | @skellam
aggregation.stages=measure | [measure] |
aggregation.stages=custom | [{name: "prototype_stages:TopK", args: {k: 3}}] |
aggregation.stages=custom.args | [{name: "prototype_stages:TopK", args: {k: 3}}] |
    aggregation.stages=["prototype_stages:TopK"]
privacy.delta | 1e-6 | @noise
privacy.accountant | rdp | @noise
privacy.adjacency | replace_one | @noise
privacy.budget | 1.2 | @noise
privacy.hypothetical_cohort | 4 | @noise
aggregation.protection=none | none | aggregation.protection=secagg
aggregation.protection=unmasked | unmasked | aggregation.protection=secagg
aggregation.protection=unmasked.bits | 4 | aggregation.protection={name: unmasked, bits: 16, clip: 1}
aggregation.protection=unmasked.clip | 0.001 | aggregation.protection={name: unmasked, bits: 16, clip: 1}
aggregation.protection=unmasked.dropout.advertise | 0.5 | cohort=4
aggregation.protection=unmasked.dropout.share | 0.5 | cohort=4
aggregation.protection=unmasked.dropout.upload | 0.5 | cohort=4
aggregation.protection=unmasked.dropout.unmask | 0.5 |
aggregation.protection=secagg.bits | 4 | aggregation.protection={name: secagg, bits: 16, clip: 1}
aggregation.protection=secagg.clip | 0.001 | aggregation.protection={name: secagg, bits: 16, clip: 1}
aggregation.protection=secagg.dropout.advertise | 0.9 | cohort=4
aggregation.protection=secagg.dropout.share | 0.9 | cohort=4
aggregation.protection=secagg.dropout.upload | 0.9 | cohort=4
aggregation.protection=secagg.dropout.unmask | 0.9 | cohort=4
aggregation.protection=secagg.threshold | 1 | cohort=4; rounds=6; aggregation.protection.dropout.upload=0.05
aggregation.protection=secagg_plus.bits | 4 | aggregation.protection={name: secagg_plus, bits: 16, clip: 1}
aggregation.protection=secagg_plus.clip | 0.001 | aggregation.protection={name: secagg_plus, bits: 16, clip: 1}
aggregation.protection=secagg_plus.dropout.advertise | 0.9 | cohort=4
aggregation.protection=secagg_plus.dropout.share | 0.9 | cohort=4
aggregation.protection=secagg_plus.dropout.upload | 0.9 | cohort=4
aggregation.protection=secagg_plus.dropout.unmask | 0.9 | cohort=4
aggregation.protection=secagg_plus.threshold | 1 | cohort=4; rounds=6; aggregation.protection.dropout.upload=0.05
aggregation.protection=secagg_plus.neighbours | 2 | cohort=4
aggregation.protection=bfv.bits | 4 | aggregation.protection={name: bfv, bits: 16, clip: 1}
aggregation.protection=bfv.clip | 0.001 | aggregation.protection={name: bfv, bits: 16, clip: 1}
aggregation.protection=bfv.layers | ["*bias"] |
aggregation.protection=bfv.share | 0.1 |
aggregation.protection=bfv.sensitivity | scores.npy |
aggregation.protection=ckks.bits | 16 |
aggregation.protection=ckks.clip | 1 |
aggregation.protection=ckks.layers | ["*bias"] |
aggregation.protection=ckks.share | 0.1 |
aggregation.protection=ckks.sensitivity | scores.npy |
aggregation.exact | false | cohort=4; rounds=6
evaluation.every | 2 |
evaluation.sets | [test] |
evaluation.clients_every | 2 |
evaluation.metrics | [macro_f1] |
evaluation.positive | 1 | data:two; evaluation.metrics=[recall]
evaluation.fine_tune.epochs | 3 | evaluation.fine_tune={epochs: 1}
evaluation.fine_tune.steps | 3 | evaluation.fine_tune={epochs: 1}
evaluation.fine_tune.lr | 0.9 | evaluation.fine_tune={epochs: 1}
evaluation.fine_tune.layers | ["*.bias"] | evaluation.fine_tune={epochs: 1}
evaluation.local_baseline | <FOLDER>/local |
evaluation.generate.prompts | [c] | @writing
evaluation.generate.tokens | 5 | @writing
evaluation.generate.temperature | 0 | @writing
evaluation.generate.every | 1 | @writing
stop.metric | validation/loss | stop.target=0.01; evaluation.metrics=[accuracy]
stop.target | 0.01 |
stop.patience | 1 | client.optimizer.lr=0
stop.seconds | 0.000001 |
stop.virtual_seconds | 1 | @devices
stop.wire_bytes | 300 |
systems.fleet=none | none | @devices
systems.timetable=synchronous | synchronous | @devices; systems.timetable={name: deadline, seconds: 0.3}
systems.fleet=log_normal | {name: log_normal, speed: 10} |
systems.fleet=log_normal.speed | 3 | @devices
systems.fleet=log_normal.sigma | 0 | @devices
systems.fleet=log_normal.upload | 10 | @far
systems.fleet=log_normal.download | 10 | @far
systems.fleet=log_normal.network_sigma | 1 | @far
systems.fleet=log_normal.latency | 1 | @devices
systems.fleet=log_normal.deviation | 0.1 | @devices
systems.fleet=tiers | {name: tiers, tiers: [{share: 1, speed: 3}]} |
systems.fleet=tiers.tiers.share | [{share: 0.99, speed: 3}, {share: 0.01, speed: 9}] | @kinds_of_devices
systems.fleet=tiers.tiers.speed | [{share: 0.5, speed: 4}, {share: 0.5, speed: 9}] | @kinds_of_devices
systems.fleet=tiers.tiers.upload | [{share: 1, speed: 3, upload: 10}] | systems.fleet.tiers=[{share: 1, speed: 3}]
systems.fleet=tiers.tiers.download | [{share: 1, speed: 3, download: 10}] | systems.fleet.tiers=[{share: 1, speed: 3}]
systems.fleet=tiers.tiers.latency | [{share: 1, speed: 3, latency: 1}] | systems.fleet.tiers=[{share: 1, speed: 3}]
systems.fleet=tiers.tiers.deviation | [{share: 1, speed: 3, deviation: 1}] | systems.fleet.tiers=[{share: 1, speed: 3}]
systems.backhaul.upload | 900 | @hierarchy
systems.backhaul.download | 900 | @hierarchy
systems.backhaul.latency | 9 | @hierarchy
systems.fleet=trace | {name: trace, path: <FOLDER>/devices.csv} |
systems.fleet=trace.path | <FOLDER>/slower.csv | @recorded
systems.fleet=trace.assign | in_order | @recorded
systems.unit | samples | @devices
systems.availability=always | always | @devices; systems.availability=diurnal
systems.availability=diurnal | diurnal | @devices
systems.availability=diurnal.unfinished | lost | @devices; systems.fleet.speed=0.00001; systems.availability.hours=1
systems.availability=diurnal.hours | 2 | @devices
systems.availability=diurnal.spread | 0 | @devices
systems.availability=charging | charging | @devices
systems.availability=charging.unfinished | lost | @devices; systems.fleet.speed=0.00001; systems.availability.longest=3
systems.availability=charging.shortest | 9 | @devices
systems.availability=charging.longest | 3 | @devices
systems.availability=charging.spread | 0 | @devices
systems.availability=charging.chance | 0.1 | @devices
systems.availability=trace | {name: trace, path: <FOLDER>/windows.csv} | @devices
systems.availability=trace.unfinished | lost | @devices; systems.fleet.speed=0.0001;
    systems.availability.path=<FOLDER>/windows.csv
systems.availability=trace.path | <FOLDER>/later.csv | @devices; systems.availability.path=<FOLDER>/windows.csv
systems.availability=trace.period | 99999 | @devices; systems.fleet.speed=0.0005;
    systems.availability.path=<FOLDER>/windows.csv
systems.dropout | 0.5 | @devices
systems.costs.joules_per_second | 1 | @devices
systems.costs.joules_per_byte | 1 | @devices
systems.costs.money_per_second | 1 | @devices
systems.costs.money_per_byte | 1 | @devices
systems.timetable=deadline | {name: deadline, seconds: 0.3} | @devices
systems.timetable=deadline.seconds | 0.2 | @devices; systems.timetable.seconds=0.5
systems.timetable=deadline.keep_partial | true | @devices; systems.timetable.seconds=0.3
systems.timetable=fedbuff | {name: fedbuff, buffer: 2, in_flight: 3} | @uneven
systems.timetable=fedbuff.buffer | 3 | @fedbuff
systems.timetable=fedbuff.in_flight | 3 | @fedbuff
systems.timetable=fedbuff.max_staleness | 0 | @fedbuff
systems.timetable=fedbuff.staleness=constant | constant | @fedbuff
systems.timetable=fedbuff.staleness=polynomial | polynomial | @fedbuff; systems.timetable.staleness=constant
systems.timetable=fedbuff.staleness=polynomial.exponent | 3 | @fedbuff; systems.timetable.staleness=polynomial
systems.timetable=fedbuff.staleness=hinge | {name: hinge, b: 0} | @fedbuff
systems.timetable=fedbuff.staleness=hinge.a | 1 | @fedbuff; systems.timetable.staleness={name: hinge, b: 0}
systems.timetable=fedbuff.staleness=hinge.b | 0 | @fedbuff; systems.timetable.staleness=hinge
systems.timetable=fedasync | {name: fedasync, in_flight: 3} | @uneven
systems.timetable=fedasync.mixing | 0.3 | @fedasync
systems.timetable=fedasync.in_flight | 3 | @fedasync
systems.timetable=fedasync.max_staleness | 0 | @fedasync
systems.timetable=fedasync.staleness=constant | constant | @fedasync
systems.timetable=fedasync.staleness=polynomial | polynomial | @fedasync; systems.timetable.staleness=constant
systems.timetable=fedasync.staleness=polynomial.exponent | 3 | @fedasync; systems.timetable.staleness=polynomial
systems.timetable=fedasync.staleness=hinge | {name: hinge, b: 0} | @fedasync
systems.timetable=fedasync.staleness=hinge.a | 1 | @fedasync; systems.timetable.staleness={name: hinge, b: 0}
systems.timetable=fedasync.staleness=hinge.b | 0 | @fedasync; systems.timetable.staleness=hinge
systems.timetable=over_selection | over_selection | @devices
systems.timetable=over_selection.factor | 2 | @devices
execution.threads_per_client | 2 |
tracking.directory | <FOLDER>/elsewhere |
tracking.checkpoint_every | 1 | tracking.keep=3
tracking.keep | 3 | tracking.checkpoint_every=1
tracking.checkpoints | <FOLDER>/kept |
tracking.report | true |
tracking.clients | false |
tracking.chain | false |
"""


def lines(table: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Value and base of each key."""
    found = {}
    for line in filter(None, re.sub(r"\n +", " ", table).splitlines()):
        key, value, *base = (part.strip() for part in line.split(" |"))
        whole = re.sub(r"@\w+", lambda name: BASES[name[0]], base[0]) if base else ""
        found[key] = value, tuple(one.strip() for one in whole.split(";") if one.strip())
    return found

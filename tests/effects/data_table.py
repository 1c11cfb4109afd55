"""What is tried of each key of the `data` section; see `tables`."""

from __future__ import annotations

DATA = """
data.source=in_memory | in_memory | data.source=digits
data.source=synthetic_virtual.on_disk | true | data.source.clients=4; data.label_histograms=true;
    training.logits=adjusted
data.partition=iid | {name: iid, clients: 5} |
data.augmentation=none | none | data.augmentation=jitter
data.source=mnist | {name: mnist, path: <FOLDER>/mnist-a} |
data.source=mnist.path | <FOLDER>/mnist-b | data.source.path=<FOLDER>/mnist-a
data.source=idx |
    {name: idx, features: <FOLDER>/mnist-a/train-images-idx3-ubyte, labels: <FOLDER>/mnist-a/train-labels-idx1-ubyte} |
data.source=idx.features | <FOLDER>/mnist-b/train-images-idx3-ubyte | @idx
data.source=idx.labels | <FOLDER>/mnist-a/t10k-labels-idx1-ubyte | @idx
data.source=idx.test_features | <FOLDER>/mnist-b/t10k-images-idx3-ubyte | @idx;
    data.source.test_labels=<FOLDER>/mnist-a/t10k-labels-idx1-ubyte;
    data.source.test_features=<FOLDER>/mnist-a/t10k-images-idx3-ubyte
data.source=idx.test_labels | <FOLDER>/mnist-a/t10k-labels-idx1-ubyte | @idx
data.source=cifar10 | {name: cifar10, path: <FOLDER>/cifar-a} |
data.source=cifar10.path | <FOLDER>/cifar-b | data.source.path=<FOLDER>/cifar-a
data.source=csv | {name: csv, path: <FOLDER>/a.csv, label: label, ignore: [kind]} |
data.source=csv.path | <FOLDER>/b.csv | @csv
data.source=csv.test | <FOLDER>/b.csv | @csv
data.source=csv.label | number | @csv
data.source=csv.features | [one] | @csv
data.source=csv.ignore | [kind, one] | @csv
data.source=csv.client | who | @csv; data.partition=natural
data.source=csv.na_values | ["?"] | @kinds; data.transforms=[missing, one_hot]
data.source=csv.task | regression | @csv
data.source=parquet | {name: parquet, path: <FOLDER>/a.parquet, label: label, ignore: [kind]} |
data.source=npz | {name: npz, path: <FOLDER>/b.npz} |
data.source=npz.path | <FOLDER>/b.npz | data.source.path=<FOLDER>/a.npz
data.source=npz.task | regression | data.source.path=<FOLDER>/a.npz
data.source=text | {name: text, path: <FOLDER>/a.json, sequence_length: 8} |
    data.source={name: text, path: <FOLDER>/b.json, sequence_length: 8}; model={name: lstm_char, hidden: 4}
data.source=text.path | <FOLDER>/b.json | @text
data.source=text.sequence_length | 9 | @text
data.source=text.tokens | bytes | @text
data.source=text.min_characters | 10 | @text; data.partition=natural
data.source=corpus | {name: corpus, path: <FOLDER>/a.json, length: 8} |
    data.source={name: text, path: <FOLDER>/a.json, sequence_length: 8}; model={name: lstm_char, hidden: 4}
data.source=corpus.path | <FOLDER>/b.json | @corpus
data.source=corpus.format | hub | @corpus
data.source=corpus.split | test | @corpus
data.source=corpus.test | <FOLDER>/b.json | @corpus
data.source=corpus.text | more | @documents
data.source=corpus.prompt | asked | @documents; data.source.prompt=more; data.source.response=text
data.source=corpus.response | more | @documents; data.source.prompt=asked; data.source.response=text
data.source=corpus.chosen | kind | @pairs
data.source=corpus.rejected | kind | @pairs
data.source=corpus.messages | talk | @documents
data.source=corpus.template | "{prompt}: {response}" | @documents; data.source.prompt=asked; data.source.response=text
data.source=corpus.label | other | @classes
data.source=corpus.client | kind | @documents; data.partition=natural
data.source=corpus.tokenizer | bytes | @corpus
data.source=corpus.end_of_text | </s> | @corpus
data.source=corpus.task | classification | @documents
data.source=corpus.length | 9 | @corpus
data.source=corpus.packing | false | @documents
data.source=corpus.inputs | [attention_mask] | @classes; data.source.inputs=[]
data.source=corpus.min_characters | 10 | @corpus; data.partition=natural
data.source=corpus.download | true | @corpus
data.source=synthetic | {name: synthetic, clients: 4, sigma: 0.1} |
data.source=synthetic.alpha | 1 | @synthetic
data.source=synthetic.beta | 1 | @synthetic
data.source=synthetic.iid | true | @synthetic
data.source=synthetic.clients | 5 | @synthetic
data.source=synthetic.sigma | 0.5 | @synthetic
data.source=synthetic.dimensions | 7 | @synthetic
data.source=synthetic.classes | 4 | @synthetic
data.source=synthetic_virtual | {name: synthetic_virtual, clients: 4} |
data.source=synthetic_virtual.clients | 9 | data.source.clients=4
data.source=synthetic_virtual.samples | 30 | data.source.clients=4
data.source=synthetic_virtual.alpha | 1 | data.source.clients=4; data.source.iid=false
data.source=synthetic_virtual.beta | 1 | data.source.clients=4; data.source.iid=false
data.source=synthetic_virtual.iid | false | data.source.clients=4
data.source=synthetic_virtual.dimensions | 7 | data.source.clients=4
data.source=synthetic_virtual.classes | 4 | data.source.clients=4
data.source=synthetic_virtual.test_samples | 50 | data.source.clients=4
data.source=in_memory.fingerprint | 123 |
data.source=custom | {name: "own_code:source"} |
data.source=custom.args | {count: 50} | data.source.name=own_code:source
data.classes | [no, yes] | data.source=in_memory
data.transforms=missing | [missing] | data:holes
data.transforms=missing.action | [{name: missing, action: zero}] | data:holes;
    data.transforms=[{name: missing, action: mean}]
data.transforms=missing.allow_lost | [{name: missing, allow_lost: [clients]}] | data:holes;
    data.transforms=[missing]; data.partition=natural
data.transforms=min_max | [min_max] |
data.transforms=min_max.low | [{name: min_max, low: -3}] | data.transforms=[min_max]
data.transforms=min_max.high | [{name: min_max, high: 3}] | data.transforms=[min_max]
data.transforms=standardise | [standardise] |
data.transforms=one_hot | [one_hot] | @kinds
data.transforms=one_hot.columns | [{name: one_hot, columns: [number]}] | @kinds; data.transforms=[one_hot]
data.transforms=dates | [{name: dates, columns: [day]}] | @days
data.transforms=dates.columns | [{name: dates, columns: [label]}] | @days;
    data.transforms=[{name: dates, columns: [day]}]
data.transforms=dates.format | [{name: dates, columns: [day], format: "%d"}] | @days;
    data.transforms=[{name: dates, columns: [day]}]
data.transforms=dates.parts | [{name: dates, columns: [day], parts: [day]}] | @days;
    data.transforms=[{name: dates, columns: [day]}]
data.transforms=rare | [{name: rare, min_count: 50}, one_hot] | @kinds; data.transforms=[one_hot]
data.transforms=rare.columns | [{name: rare, columns: [number]}, one_hot] | @kinds; data.transforms=[rare, one_hot]
data.transforms=rare.min_count | [{name: rare, min_count: 900}, one_hot] | @kinds;
    data.transforms=[{name: rare, min_count: 2}, one_hot]
data.transforms=rare.other | [{name: rare, min_count: 900, other: ""}, one_hot] | @kinds;
    data.transforms=[{name: rare, min_count: 900}, one_hot]
data.transforms=clip | [{name: clip, high: 0.5}] |
data.transforms=clip.columns | [{name: clip, high: 0.5, columns: [one]}] | @csv;
    data.transforms=[{name: clip, high: 0.5}]
data.transforms=clip.low | [{name: clip, low: 0.4}] | data.transforms=[clip]
data.transforms=clip.high | [{name: clip, high: 0.5}] | data.transforms=[clip]
data.transforms=ordinal | [ordinal] | @kinds
data.transforms=ordinal.columns | [{name: ordinal, columns: [number]}, one_hot] | @kinds; data.transforms=[ordinal]
data.transforms=ordinal.order | [{name: ordinal, order: {kind: [a]}}] | @kinds; data.transforms=[ordinal]
data.transforms=hash | [hash] | @kinds
data.transforms=hash.columns | [{name: hash, columns: [number]}, one_hot] | @kinds; data.transforms=[hash]
data.transforms=hash.buckets | [{name: hash, buckets: 5}] | @kinds; data.transforms=[hash]
data.transforms=target_mean | [target_mean] | @kinds
data.transforms=target_mean.columns | [{name: target_mean, columns: [number]}, one_hot] | @kinds;
    data.transforms=[target_mean]
data.transforms=target_mean.smoothing | [{name: target_mean, smoothing: 0}] | @kinds; data.transforms=[target_mean]
data.transforms=ids | [ids] | @kinds; data.transforms=[one_hot]
data.transforms=ids.columns | [{name: ids, columns: [number]}] | @kinds; data.transforms=[ids];
    model.name=own_code:Mixed
data.transforms=target | [target] | @numbers
data.transforms=target.log1p | [{name: target, log1p: true}] | @numbers; data.transforms=[target]
data.transforms=target.standardise | [{name: target, log1p: true, standardise: false}] | @numbers;
    data.transforms=[{name: target, log1p: true}]
data.transforms=windows | [{name: windows, length: 2}] | @series; data.transforms=[]
data.transforms=windows.length | [{name: windows, length: 3}] | @series
data.transforms=windows.horizon | [{name: windows, length: 2, horizon: 2}] | @series
data.transforms=windows.step | [{name: windows, length: 2, step: 2}] | @series
data.transforms=windows.time | [{name: windows, length: 2, time: one}] | @series
data.transforms=windows.past_targets | [{name: windows, length: 2, past_targets: true}] | @series
data.split=random | random | data.split=stratified
data.split=stratified | stratified |
data.split=group | {name: group, column: one} | @csv; data.validation=0; data.test=0.3
data.split=group.column | two | @csv; data.split.column=one; data.validation=0; data.test=0.3
data.split=group.keep | true | @csv; data.split.column=one; data.validation=0; data.test=0.3
data.split=time | {name: time, column: number} | @csv
data.split=time.column | one | @csv; data.split.column=two
data.split=time.keep | true | @csv; data.split.column=number
data.transforms=one_hot.max_categories | [{name: one_hot, max_categories: 2}] | @kinds; data.transforms=[one_hot]
data.partition=iid.allow_empty | true | data.partition.clients=100
data.partition=iid.clients | 5 | data.partition.clients=4
data.partition=shards | {name: shards, clients: 4} |
data.partition=shards.allow_empty | true | data.partition={name: shards, clients: 50, shards_per_client: 1}; cohort=9
data.partition=shards.clients | 5 | data.partition.clients=4
data.partition=shards.shards_per_client | 3 | data.partition.clients=4
data.partition=dirichlet | {name: dirichlet, clients: 4, min_size: 2} |
data.partition=dirichlet.allow_empty | true | data.partition={name: dirichlet, clients: 100, min_size: 0}
data.partition=dirichlet.clients | 5 | data.partition={name: dirichlet, clients: 4, min_size: 2}
data.partition=dirichlet.alpha | 5 | data.partition={name: dirichlet, clients: 4, min_size: 2}
data.partition=dirichlet.min_size | 9 | data.partition={name: dirichlet, clients: 4, min_size: 1, alpha: 0.3}
data.partition=classes | {name: classes, clients: 4} |
data.partition=classes.allow_empty | true | data.partition={name: classes, clients: 50}; cohort=9
data.partition=classes.clients | 5 | data.partition={name: classes, clients: 4}
data.partition=classes.classes_per_client | 1 | data.partition={name: classes, clients: 4}
data.partition=label_shares | {name: label_shares, shares: [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]} |
data.partition=label_shares.allow_empty | true | @shares
data.partition=label_shares.shares | [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]] | @shares
data.partition=label_shares.size | 9 | @shares
data.partition=quantity | {name: quantity, clients: 4} |
data.partition=quantity.allow_empty | true | data.partition={name: quantity, clients: 60, min_size: 0}
data.partition=quantity.clients | 5 | @unequal
data.partition=quantity.distribution | lognormal | @unequal
data.partition=quantity.exponent | 3 | @unequal
data.partition=quantity.sigma | 0.1 | data.partition={name: quantity, clients: 4, distribution: lognormal}
data.partition=quantity.min_size | 9 | @unequal
data.partition=natural.allow_empty | true |
data.partition=natural.min_size | 6 |
data.partition=natural.clients | 3 |
data.partition=custom | {name: "own_code:deal"} |
data.partition=custom.args | {clients: 3} | data.partition={name: "own_code:deal"}
data.imbalance.ratio | 4 |
data.imbalance.profile | step | data.imbalance.ratio=4
data.imbalance.minority | 0.2 | data.imbalance={ratio: 4, profile: step}
data.imbalance.order | label | data.imbalance.ratio=4; data.seed=3
data.augmentation=images | {name: images} | data:images; @skewed; client.steps=2
data.augmentation=images.to | 0.8 | data:images; @skewed; client.steps=2
data.augmentation=images.most | 1.1 | data:images; @skewed; client.steps=2
data.augmentation=images.shift | 3 | data:images; @skewed; client.steps=2
data.augmentation=images.rotate | 0 | data:images; @skewed; client.steps=2
data.augmentation=images.noise | 0.5 | data:images; @skewed; client.steps=2
data.augmentation=jitter | {name: jitter} | @skewed
data.augmentation=jitter.to | 0.8 | @skewed
data.augmentation=jitter.most | 1.1 | @skewed
data.augmentation=jitter.scale | 1 | @skewed
data.augmentation=smote | {name: smote} | @skewed
data.augmentation=smote.to | 0.8 | @skewed
data.augmentation=smote.most | 1.1 | @skewed
data.augmentation=smote.neighbours | 1 | @skewed
data.noise.clients | [0, 1] |
data.noise.fraction | 0.1 | data.noise.clients=[0, 1, 2, 3]
data.test | 0.4 |
data.validation | 0.3 |
data.holdout | 0.4 |
data.seed | 5 |
data.label_histograms | false | training.logits=adjusted
"""

"""Keys whose effect a run in process does not show: `key | value | base`, by what shows it (`looks`)."""

from __future__ import annotations

RAY = "execution.executor=ray"
VARIED = "client.epochs=3; tuning.space={client.epochs: {low: 1, high: 9}}"
LOSS = "tuning.objective={metric: validation/loss}"
BEATEN = "client.optimizer.lr=0.0001; tuning.space={client.optimizer.lr: {low: 0.0001, high: 1.0}}; " + LOSS
STUDY = "rounds=1; tuning.trials=2; tuning.sampler=random; tuning.confirm.seeds=0"

LOOKED_AT = {
    "engine": """
training.rows | 3 | training.engine=rows
execution.shard_memory | 0 |
""",
    "recomputed": """
training.checkpointing | true | @mlp
""",
    "ranges": """
evaluation.batch_size | 2 |
""",
    "executor": """
execution.executor | ray |
""",
    "placement": f"""
execution.actors | 1 | {RAY}
execution.clients_per_actor | 1 | {RAY}
execution.num_cpus | 3 | {RAY}
execution.num_gpus | 0.5 | {RAY}
execution.device | cpu | {RAY}; execution.num_gpus=0.5
execution.classes.clients | {{big: {{clients: [0]}}}} | {RAY}; execution.classes={{big: {{clients: ["0-2"]}}}};
    cohort=4
execution.classes.min_samples | {{big: {{min_samples: 9}}}} | {RAY}; execution.classes={{big: {{min_samples: 900}}}}
execution.classes.min_steps | {{big: {{min_steps: 2}}}} | {RAY}; execution.classes={{big: {{min_steps: 900}}}}
execution.classes.actors | {{big: {{clients: [0], actors: 2}}}} | {RAY}; execution.classes={{big: {{clients: [0]}}}}
execution.classes.num_cpus | {{big: {{clients: [0], num_cpus: 2}}}} | {RAY};
    execution.classes={{big: {{clients: [0]}}}}
execution.classes.num_gpus | {{big: {{clients: [0], num_gpus: 1}}}} | {RAY}; execution.num_gpus=0.5;
    execution.classes={{big: {{clients: [0], num_gpus: 0.5}}}}
""",
    "calls": f"""
execution.address | 10.0.0.1:6379 | {RAY}
execution.object_store_memory | 100000000 | {RAY}
execution.gpu_memory | 123 | {RAY}; execution.num_gpus=1
""",
    "patience": """
execution.wait_for_nodes | 0.01 | execution.wait_for_nodes=0
""",
    "verdicts": """
execution.max_retries | 1 |
execution.faults.died | fail |
execution.faults.hung | drop |
execution.faults.memory | drop |
execution.faults.data | drop |
execution.faults.error | drop |
execution.faults.deadline | 3 |
execution.faults.least_deadline | 3 |
""",
    "printed": """
tracking.observers=terminal | [terminal] |
tracking.observers=plain | [plain] |
tracking.observers=json | [json] |
tracking.observers=quiet | [quiet] | tracking.observers=[plain]
tracking.observers=custom | ["own_code:Teller"] |
tracking.observers=custom.args | [{name: "own_code:Teller", args: {word: bye}}] |
    tracking.observers=[{name: "own_code:Teller"}]
""",
    "tracked": """
tracking.observers=tensorboard | [tensorboard] |
tracking.observers=tensorboard.folder | [{name: tensorboard, folder: events}] | tracking.observers=[tensorboard]
tracking.observers=mlflow | [mlflow] |
tracking.observers=mlflow.uri | [{name: mlflow, uri: "http://127.0.0.1:5000"}] | tracking.observers=[mlflow]
tracking.observers=mlflow.experiment | [{name: mlflow, experiment: other}] | tracking.observers=[mlflow]
tracking.observers=mlflow.artifacts | [{name: mlflow, artifacts: false}] | tracking.observers=[mlflow]
tracking.observers=mlflow.group | [{name: mlflow, group: seeds}] | tracking.observers=[mlflow]
tracking.observers=wandb | [wandb] |
tracking.observers=wandb.project | [{name: wandb, project: other}] | tracking.observers=[wandb]
tracking.observers=wandb.entity | [{name: wandb, entity: team}] | tracking.observers=[wandb]
tracking.observers=wandb.mode | [{name: wandb, mode: online}] | tracking.observers=[wandb]
tracking.observers=wandb.group | [{name: wandb, group: seeds}] | tracking.observers=[wandb]
tracking.observers=wandb.artifacts | [{name: wandb, artifacts: false}] | tracking.observers=[wandb]
""",
    "ahead": """
execution.rounds_ahead | 0 |
""",
    "told": """
execution.metrics | true |
""",
    "hops": """
aggregation.fan_in | 2 |
""",
    "cache": """
data.cache | <FOLDER>/cache |
""",
    "scratch": """
execution.state_memory | 1 | algorithm=ditto
execution.scratch | <FOLDER>/scratch | algorithm=ditto; execution.state_memory=1
""",
    "space": f"""
tuning.space.low | {{client.epochs: {{low: 1, high: 9}}}} | tuning.space={{client.epochs: {{low: 2, high: 9}}}}
tuning.space.high | {{client.epochs: {{low: 1, high: 9}}}} | tuning.space={{client.epochs: {{low: 1, high: 8}}}}
tuning.space.step | {{client.epochs: {{low: 1, high: 9, step: 2}}}} | {VARIED}
tuning.space.log | {{client.epochs: {{low: 1, high: 9, log: true}}}} | {VARIED}
tuning.space.choices | {{client.epochs: {{choices: [1, 3]}}}} | {VARIED}
tuning.space.when | {{client.epochs: {{low: 1, high: 9, when: {{rounds: 3}}}}}} | {VARIED}
tuning.weights=none | none | {VARIED}; tuning.weights=sizes
tuning.weights=clients | clients | {VARIED}
tuning.weights=clients.coordinates | logs | {VARIED}
tuning.weights=groups | {{name: groups, groups: {{a: [0, 1], b: [2, 3]}}}} | {VARIED}
tuning.weights=groups.coordinates | logs | {VARIED}; tuning.weights.groups={{a: [0, 1], b: [2, 3]}}
tuning.weights=groups.groups | {{a: [0], b: [1, 2, 3]}} | {VARIED}; tuning.weights.groups={{a: [0, 1], b: [2, 3]}}
tuning.weights=column | {{name: column, path: <FOLDER>/groups.csv, column: one}} | {VARIED}
tuning.weights=column.coordinates | logs | {VARIED}; tuning.weights.path=<FOLDER>/groups.csv;
    tuning.weights.column=one
tuning.weights=column.path | <FOLDER>/other.csv | {VARIED}; tuning.weights.path=<FOLDER>/groups.csv;
    tuning.weights.column=one
tuning.weights=column.column | two | {VARIED}; tuning.weights.path=<FOLDER>/groups.csv; tuning.weights.column=one
tuning.weights=sizes | sizes | {VARIED}
tuning.weights=sizes.coordinates | logs | {VARIED}
tuning.weights=sizes.groups | 2 | {VARIED}
tuning.weights=labels | labels | {VARIED}
tuning.weights=labels.coordinates | logs | {VARIED}
tuning.weights=labels.groups | 2 | {VARIED}
tuning.objective.metric | {{metric: validation/loss}} | {VARIED}
tuning.objective.of | {{metric: validation/loss, of: best}} | {VARIED}; tuning.objective={{metric: validation/loss}}
tuning.objective.last | {{metric: validation/loss, of: mean, last: 2}} | {VARIED};
    tuning.objective={{metric: validation/loss, of: mean}}
tuning.objective.target | {{metric: validation/loss, of: rounds_to, target: 2}} | {VARIED};
    tuning.objective={{metric: validation/loss, of: rounds_to, target: 1}}
tuning.objective.direction | {{metric: validation/loss, direction: maximise}} | {VARIED};
    tuning.objective={{metric: validation/loss}}
tuning.sampler=tpe | tpe | {VARIED}; tuning.sampler=random
tuning.sampler=tpe.startup | 3 | {VARIED}
tuning.sampler=cma_es | cma_es | {VARIED}
tuning.sampler=cma_es.population | 9 | {VARIED}
tuning.sampler=gp | gp | {VARIED}
tuning.sampler=gp.startup | 3 | {VARIED}
tuning.sampler=random | random | {VARIED}
tuning.sampler=grid | grid | {VARIED}
tuning.sampler=nsga2 | nsga2 | {VARIED}
tuning.sampler=nsga2.population | 9 | {VARIED}
tuning.pruner=none | none | {VARIED}; tuning.pruner=median
tuning.pruner=median | median | {VARIED}
tuning.pruner=median.startup | 3 | {VARIED}
tuning.pruner=median.warmup | 3 | {VARIED}
tuning.pruner=asha | asha | {VARIED}
tuning.pruner=asha.rounds | 3 | {VARIED}
tuning.pruner=asha.reduction | 3 | {VARIED}
tuning.pruner=hyperband | hyperband | {VARIED}
tuning.pruner=hyperband.rounds | 3 | {VARIED}
tuning.pruner=hyperband.reduction | 4 | {VARIED}
""",
    "storage": """
tuning.storage | sqlite:///<FOLDER>/study.db |
""",
    "study": f"""
tuning.trials | 3 | {VARIED}; {STUDY}
tuning.parallel | 2 | {VARIED}; {STUDY}
tuning.seed | 5 | {VARIED}; {STUDY}
tuning.confirm.seeds | 2 | {BEATEN}; {STUDY}
tuning.confirm.level | 0.5 | {BEATEN}; {STUDY}; tuning.confirm.seeds=2
""",
}

"""What is tried of each algorithm's knobs; see `tables`. A knob alone is of all algorithms without their own line."""

from __future__ import annotations

ALGORITHMS = """
fedavg | fedavg | algorithm=fedsgd
fedper.server_lr | 0.5 | @mlp
fedper.server_momentum | 0.5 | @mlp
fedrep.server_lr | 0.5 | @mlp
fedrep.server_momentum | 0.5 | @mlp
fedbn | {name: fedbn, local_layers: ["*.bias"]} |
fedbn.server_lr | 0.5 | algorithm.local_layers=["*.bias"]
fedbn.server_momentum | 0.5 | algorithm.local_layers=["*.bias"]
local.server_lr | 0.5 | algorithm.local_layers=["*.bias"]
local.server_momentum | 0.5 | algorithm.local_layers=["*.bias"]
pfedme | pfedme | client.optimizer.lr=0.05
pfedme.server_lr | 0.5 | client.optimizer.lr=0.05
pfedme.server_momentum | 0.5 | client.optimizer.lr=0.05
mime | mime | rounds=4
mime.server_lr | 0.5 | rounds=4
mime.server_momentum | 0.5 | rounds=8
server_lr | 0.5 |
server_momentum | 0.5 |
fedadagrad.beta1 | 0.5 |
fedadagrad.tau | 0.5 |
fedadam.beta1 | 0.5 |
fedadam.tau | 0.5 |
fedadam.beta2 | 0.5 |
fedyogi.beta1 | 0.5 |
fedyogi.tau | 0.5 |
fedyogi.beta2 | 0.5 |
fedprox.mu | 1 | client.epochs=3
fednova.mu | 1 | client.epochs=3
fedexp.epsilon | 10 | data.partition={name: shards, clients: 4}; cohort=4; client.epochs=3
scaffold.option | 1 |
fedkseed.seeds | 9 |
fedkseed.epsilon | 0.5 |
fedkseed.seed | 3 |
feddyn.alpha | 1 |
fedper.local_layers | [] |
fedrep.local_layers | [] | algorithm.head_epochs=1
fedrep.head_epochs | 1 |
fedbn.local_layers | ["*.weight"] | algorithm.local_layers=["*.bias"]
local.local_layers | [] |
ditto.strength | 0.9 | client.epochs=3; cohort=4
pfedme.strength | 1 | client.optimizer.lr=0.05
pfedme.inner_steps | 1 | client.optimizer.lr=0.05
pfedme.local_lr | 0.01 | client.optimizer.lr=0.05
apfl.alpha | 0.9 | cohort=4
apfl.adaptive | true | cohort=4
perfedavg.adapt_lr | 0.5 |
mimelite.beta | 0.5 |
mime.beta | 0.5 | rounds=4
moon | moon | @mlp; cohort=4; client.epochs=2
moon.mu | 5 | @mlp; cohort=4; client.epochs=2
moon.temperature | 3 | @mlp; cohort=4; client.epochs=2
moon.layer | nowhere | @mlp
qfedavg.low | 2.0 |
qfedavg.high | 1.0 |
qfedavg.q | 2 |
qfedavg.lipschitz | 9 |
term.low | 1.0 |
term.high | 1.0 |
term.t | 0.2 |
afl | afl | aggregation.weights=uniform
afl.domains | 2 | aggregation.weights=uniform
afl.rate | 1 | aggregation.weights=uniform
afl.low | 2 | aggregation.weights=uniform
afl.high | 0.9 | aggregation.weights=uniform
ifca.clusters | 3 |
ifca.spread | 2 | algorithm.clusters=20; algorithm.spread=0.05; cohort=4
hierfavg | hierfavg | rounds=4; cohort=4
hierfavg.server_lr | 0.5 | algorithm.edge_rounds=1
hierfavg.server_momentum | 0.5 | rounds=4
hierfavg.edges | 2 | algorithm.edges=3; rounds=4; cohort=4
hierfavg.edge_rounds | 1 | rounds=4
hierfavg.assign=key | key | algorithm.name=hierfavg; rounds=4; cohort=4; algorithm.edges=2; @unequal;
    algorithm.assign.name=size
hierfavg.assign=size | size | algorithm.name=hierfavg; rounds=4; cohort=4; algorithm.edges=2; @unequal
hierfavg.assign=file | {name: file, path: <FOLDER>/groups.csv, column: one} |
    algorithm.name=hierfavg; rounds=4; cohort=4; algorithm.edges=2
hierfavg.assign=file.path | <FOLDER>/other.csv | algorithm.name=hierfavg; rounds=4; cohort=4; algorithm.edges=2;
    algorithm.assign={name: file, path: <FOLDER>/groups.csv, column: one}
hierfavg.assign=file.column | two | algorithm.name=hierfavg; rounds=4; cohort=4; algorithm.edges=2;
    algorithm.assign={name: file, path: <FOLDER>/groups.csv, column: one}
d_psgd | d_psgd | @nodes
d_psgd.server_lr | 0.5 | algorithm.name=d_psgd; @nodes
d_psgd.nodes | 3 | algorithm.name=d_psgd; @nodes
d_psgd.graph=ring | ring | algorithm.name=d_psgd; @nodes; algorithm.graph.name=full
d_psgd.graph=ring.degree | 4 | algorithm.name=d_psgd; @nodes; data.partition={name: iid, clients: 6}
d_psgd.graph=torus | torus | algorithm.name=d_psgd; @nodes; algorithm.graph.name=full
d_psgd.graph=torus.rows | 4 | algorithm.name=d_psgd; @nodes; data.partition={name: iid, clients: 12};
    algorithm.graph.rows=2
d_psgd.graph=erdos_renyi | {name: erdos_renyi, degree: 2.9} | algorithm.name=d_psgd; @nodes
d_psgd.graph=erdos_renyi.degree | 2 | algorithm.name=d_psgd; @nodes; algorithm.graph.degree=2.9
d_psgd.graph=exponential | exponential | algorithm.name=d_psgd; @nodes
d_psgd.graph=one_peer | one_peer | algorithm.name=d_psgd; @nodes
d_psgd.graph=full | full | algorithm.name=d_psgd; @nodes
d_psgd.graph=erdos_renyi.seed | 2 | algorithm.name=d_psgd; @nodes;
    algorithm.graph={name: erdos_renyi, degree: 2, seed: 1}
d_psgd.mixing | uniform | algorithm.name=d_psgd; @nodes; algorithm.graph={name: erdos_renyi, degree: 2, seed: 1}
push_sum | push_sum | @nodes
push_sum.server_lr | 0.5 | algorithm.name=push_sum; @nodes
push_sum.nodes | 3 | algorithm.name=push_sum; @nodes
push_sum.graph=ring | ring | algorithm.name=push_sum; @nodes; algorithm.graph.name=full
push_sum.graph=ring.degree | 4 | algorithm.name=push_sum; @nodes; data.partition={name: iid, clients: 6}
push_sum.graph=torus | torus | algorithm.name=push_sum; @nodes; algorithm.graph.name=full
push_sum.graph=torus.rows | 4 | algorithm.name=push_sum; @nodes; data.partition={name: iid, clients: 12};
    algorithm.graph.rows=2
push_sum.graph=erdos_renyi | {name: erdos_renyi, degree: 2.9} | algorithm.name=push_sum; @nodes
push_sum.graph=erdos_renyi.degree | 2 | algorithm.name=push_sum; @nodes; algorithm.graph.degree=2.9
push_sum.graph=exponential | exponential | algorithm.name=push_sum; @nodes
push_sum.graph=one_peer | one_peer | algorithm.name=push_sum; @nodes
push_sum.graph=full | full | algorithm.name=push_sum; @nodes
push_sum.graph=erdos_renyi.seed | 2 | algorithm.name=push_sum; @nodes;
    algorithm.graph={name: erdos_renyi, degree: 2, seed: 1}
cocoa.l2 | 0.1 |
cocoa.combine | average |
cocoa.loss | hinge |
cocoa.samples | 3 |
cocoa.largest | 3 |
cocoa.machines | 3 |
fedit | fedit | @lora
fedit.ranks | [2, 1] | @lora; cohort=4
fedit.measure_gap | true | @lora
fedit.products | sums | @lora; algorithm.measure_gap=true
fedit.clients | 3 | @lora; algorithm.measure_gap=true
products | sums | @lora
clients | 3 | @lora
hlora.products | sums | @lora; algorithm.ranks=[2]
hlora.clients | 3 | @lora; algorithm.ranks=[2]
ffa_lora | ffa_lora | @lora
rolora | rolora | @lora
fedsa_lora | fedsa_lora | @lora
fedsa_lora.local_layers | [] | @lora
fedex_lora | fedex_lora | @lora
flora | flora | @lora
flora.seed | 4 | @lora
flexlora | flexlora | @lora
hlora | {name: hlora, ranks: [2]} | @lora
hlora.server_lr | 0.5 | @lora; algorithm.ranks=[2]
hlora.shares | [0.2, 0.8] | @lora; cohort=4; algorithm.ranks=[1, 2]; algorithm.shares=[0.8, 0.2]
hlora.seed | 4 | @lora; cohort=4; algorithm.ranks=[1, 2]; algorithm.shares=[0.5, 0.5]
hlora.ranks | [2, 1] | @lora; cohort=4; algorithm.ranks=[2]
ranks | [2, 1] | @lora; cohort=4
shares | [0.2, 0.8] | @lora; cohort=4; algorithm.ranks=[1, 2]; algorithm.shares=[0.8, 0.2]
seed | 4 | @lora; cohort=4; algorithm.ranks=[1, 2]; algorithm.shares=[0.5, 0.5]
custom | {name: "own_code:Half"} |
custom.server_lr | 0.5 | algorithm={name: "own_code:Half"}
custom.server_momentum | 0.5 | algorithm={name: "own_code:Half"}
custom.args | {share: 0.1} | algorithm.name=own_code:Half
"""

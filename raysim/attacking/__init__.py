"""A recorded run, attacked: what one client's update gives away of its samples, and what the model does.

Nothing has to be recorded for it: a round is a pure function of the state before it, so the message that a client sent
is computed again (`raysim.replaying`), as the server received it: after clips and noise of the client's own.
"""

from raysim.attacking.drawing import draw_inversion, shown_images
from raysim.attacking.inversion import InvertedUpdate, Method, Sees, invert_update
from raysim.attacking.membership import AttackedModel, attack_model, sample_losses
from raysim.attacking.participation import AttackedRound, attack_round

__all__ = [
    "AttackedModel",
    "AttackedRound",
    "InvertedUpdate",
    "Method",
    "Sees",
    "attack_model",
    "attack_round",
    "draw_inversion",
    "invert_update",
    "sample_losses",
    "shown_images",
]

"""Other people's interfaces: what was made for another library is taken here as it is; apps of Flower run unchanged."""

from raysim.adapters.frames import from_frame
from raysim.adapters.hugging_face import from_hugging_face
from raysim.adapters.scikit_learn import Baseline, sklearn_baseline

__all__ = ["Baseline", "from_frame", "from_hugging_face", "sklearn_baseline"]

"""Decodes pictures in a process of its own, and says what became of each."""

import hashlib
import traceback
import warnings
from typing import Any

import numpy as np

from genvlm.data.child import Answer, serve
from genvlm.data.images import decode_image
from genvlm.errors import ImageError


def _outcome(request: dict[str, Any], content: bytes) -> Answer:
    warnings.simplefilter("error")  # a warning of a library is no outcome either
    try:
        picture: np.ndarray = np.asarray(decode_image(content, request["name"]))
    except ImageError as error:
        return {"outcome": "refused", "said": str(error)}, b""
    except MemoryError:
        raise
    except Exception:
        return {"outcome": "fault", "said": traceback.format_exc(limit=-6)}, b""
    digest = hashlib.sha256(picture.tobytes()).hexdigest()
    return {"outcome": "picture", "said": f"{picture.shape} {digest}"}, b""


if __name__ == "__main__":
    serve(_outcome)

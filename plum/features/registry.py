"""All encoders by kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from plum.errors import PlumError
from plum.features.encoding import AGAIN, VERSION, Encoder
from plum.run.saved import read_arrays, read_settings
from plum.run.shapes import EncoderSettings


def load_encoder(folder: Path, name: str, device: str = "cpu") -> Encoder:
    """Read the encoder that :meth:`Encoder.save` wrote; it encodes the same items to bit-identical vectors.

    Args:
        folder: ``features/encoders`` of a run.
        name: of the modality.
        device: of a sentence encoder: ``cpu``, ``cuda`` or ``mps``. Its vectors differ between devices by rounding.

    Raises:
        PlumError: if a file is missing, damaged or of another version, or the two don't belong together.
    """
    from plum.features.cooccurrence import CooccurrenceEncoder
    from plum.features.given import FileEncoder
    from plum.features.learnt import DenseEncoder
    from plum.features.numeric import NumericEncoder
    from plum.features.sentences import SentenceEncoder
    from plum.features.text import TfidfEncoder, TopicsEncoder

    texts = (TfidfEncoder, TopicsEncoder, SentenceEncoder)
    kinds = (*texts, CooccurrenceEncoder, DenseEncoder, FileEncoder, NumericEncoder)
    settings = read_settings(folder / f"{name}.json", VERSION, AGAIN, EncoderSettings)
    arrays = read_arrays(folder / f"{name}.safetensors", "an encoder's arrays", AGAIN)
    try:
        encoder = {kind.kind: kind for kind in kinds}[settings["kind"]].from_parts(settings, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        found = f"{type(error).__name__}: {error}"
        raise PlumError(f"{folder / name}.json and .safetensors don't belong together", found, AGAIN) from None
    return replace(encoder, device=device) if isinstance(encoder, SentenceEncoder) else encoder

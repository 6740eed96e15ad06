"""Whether the files of a SavedModel are those that were saved together.

TensorFlow checks the variables' values as it reads them. `saved_model.pb` it checks
nowhere, though `fingerprint.pb`, which it writes beside it since 2.12, has a hash.
"""

import pathlib

from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

_HASHES = (
    'saved_model_checksum',
    'graph_def_program_hash',
    'signature_def_hash',
    'saved_object_graph_hash',
    'checkpoint_hash',
)
# What TensorFlow's hash takes for granted: it ends the process where one is absent.
_ATTRIBUTES = {
    'Const': {'dtype', 'value'},
    'PartitionedCall': {'f', 'config_proto'},
    'StatefulPartitionedCall': {'f', 'config_proto'},
}


def check(path: pathlib.Path) -> None:
    """Compares the files of a SavedModel with its fingerprint, if it has one.

    Args:
      path: Its folder.

    Raises:
      ValueError: They are not those that were saved together.
      Exception: Whatever protobuf and TensorFlow raise where files are broken.
    """
    file = path / 'fingerprint.pb'
    if not file.exists() or not (path / 'saved_model.pb').exists():
        return
    stored = fingerprint_pb2.FingerprintDef.FromString(file.read_bytes())
    model = saved_model_pb2.SavedModel.FromString(
        (path / 'saved_model.pb').read_bytes()
    )
    whole = len(model.meta_graphs) > 0 and all(
        _ATTRIBUTES.get(node.op, set()) <= set(node.attr)
        for node in model.meta_graphs[0].graph_def.node
    )
    if whole:
        made = fingerprinting.CreateFingerprintDef(str(path))
        made = fingerprint_pb2.FingerprintDef.FromString(made)
        if made.version.producer != stored.version.producer:
            return  # Another version of TensorFlow hashes something else.
        whole = all(getattr(made, name) == getattr(stored, name) for name in _HASHES)
    if not whole:
        raise ValueError(
            'its files are not those that fingerprint.pb was saved with; it may be'
            ' deleted if they were changed on purpose'
        )

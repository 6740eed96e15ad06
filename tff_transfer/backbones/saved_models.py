"""Networks from SavedModels: folders, archives, TF-Hub's modules of both formats."""

import os
import pathlib
import shutil
import tarfile

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub

from tff_transfer.backbones import saved_checksums, saved_functions
from tff_transfer.errors import UserError, one_line


def unpack(archive: pathlib.Path, folder: str) -> pathlib.Path:
    """Unpacks an archive into `folder` and returns where its SavedModel stands.

    Raises:
      UserError: The archive is broken, or does not hold one SavedModel.
    """
    try:
        with tarfile.open(archive) as file:
            # tarfile's own filters come with Python 3.11.4; before, names such as
            # ../x and links would lead out of the folder.
            inside = pathlib.Path(folder).resolve()
            members = file.getmembers()
            for member in members:
                target = (inside / member.name).resolve()
                if not target.is_relative_to(inside) or not (
                    member.isfile() or member.isdir()
                ):
                    raise tarfile.TarError(f'{member.name} leads out of it')
            if sum(m.size for m in members) > shutil.disk_usage(inside).free:
                raise tarfile.TarError('what it holds does not fit on the disk')
            file.extractall(inside)
            # The checksum of what is compressed stands at its very end.
            while file.fileobj.read(1 << 20):
                pass
    except Exception as error:  # Each compression has errors of its own.
        raise UserError(
            f'backbone {archive} cannot be unpacked ({one_line(error)});'
            ' get the archive again'
        ) from error
    found = sorted(pathlib.Path(folder).rglob('saved_model.pb'), key=str)
    if len(found) != 1:
        raise UserError(
            f'backbone {archive} holds {len(found)} files saved_model.pb, but must be'
            ' the archive of one SavedModel'
        )
    return found[0].parent


class _Signature(tf.Module):
    """A SavedModel that is called by one of its signatures."""

    def __init__(self, module, name: str):
        super().__init__()
        self.module = module
        self._call = module.signatures[name]

    def __call__(self, images, training=False):
        return self._call(images)


def read(handle: str, path: str | os.PathLike[str]):
    """Reads a SavedModel.

    Args:
      handle: What the user gave, for messages.
      path: Where its folder is.

    Returns:
      `SavedFunctions` or, where those cannot be read, a trackable that is called with
      images and `training`; and the `tf.TensorSpec` of the images.

    Raises:
      UserError: It is no SavedModel, is broken, or takes no images.
    """
    mend = (
        f'delete {path} to download it again'
        if handle.startswith('http')
        else 'get it again or give another one'
    )
    if not any(
        os.path.isfile(os.path.join(path, name))
        for name in ('saved_model.pb', 'saved_model.pbtxt')
    ):
        raise UserError(
            f'backbone {handle} is no SavedModel: {path} has no saved_model.pb; {mend}'
        )
    try:
        saved_checksums.check(pathlib.Path(path))
        saved = saved_functions.read(pathlib.Path(path))
        if saved is not None:
            return saved, saved.images
        module = hub.load(os.fspath(path))
    except Exception as error:  # What TensorFlow raises depends on what is broken.
        raise UserError(
            f'backbone {handle} is broken ({one_line(error)}); {mend}'
        ) from error
    if callable(module):
        # It hands `training` on only if it is trainable.
        network = hub.KerasLayer(module, trainable=True)
        functions = module.__call__.concrete_functions
    else:
        names = list(getattr(module, 'signatures', {}))
        usual = ['serving_default', 'default', 'image_feature_vector']
        name = next((n for n in usual if n in names), names[0] if names else None)
        if name is None:
            raise UserError(
                f'backbone {handle} is a SavedModel that cannot be called and has no'
                ' signatures; save it with its __call__ or a signature'
            )
        network, functions = _Signature(module, name), [module.signatures[name]]
    taken = [
        each
        for function in functions
        for each in tf.nest.flatten(function.structured_input_signature)
        if isinstance(each, tf.TensorSpec)
    ]
    for spec in taken:
        if spec.shape.rank == 4 and spec.dtype == tf.float32:
            return network, spec
    raise UserError(
        f'backbone {handle} takes {described(taken)}, not float32 images'
        ' [batch, height, width, channels]; give a feature extractor for images'
    )


def read_variables(handle: str, path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Returns the variables of a SavedModel by name; as `read` otherwise."""
    network, _ = read(handle, path)
    if isinstance(network, saved_functions.SavedFunctions):
        return {v.name: v.value for v in network.variables}
    return {v.name: v.numpy() for v in network.variables}


def described(specs) -> str:
    """Returns dtypes and shapes of tensors, or of a mapping of them, for messages."""
    if isinstance(specs, dict):
        return ', '.join(f'{key}: {described(specs[key])}' for key in sorted(specs))
    shown = [f'{spec.dtype.name} {spec.shape}' for spec in tf.nest.flatten(specs)]
    return ' and '.join(shown) or 'nothing'

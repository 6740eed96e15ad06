"""The part of a configuration that says where the clients come from."""

import dataclasses

from tff_transfer.options import all_but, option, repr_of_changed

DATASETS = (
    *('emnist', 'by_client', 'synthetic_writers', 'synthetic_alpha_beta'),
    'lung_phantoms',
)

# What options are for (see `options.option`).
_OWN_FILES = {'dataset': ('by_client',)}
_FILES = {'dataset': ('by_client', 'emnist')}
_CHARACTERS = {'dataset': ('emnist', 'synthetic_writers')}
_WRITERS = {'dataset': ('synthetic_writers', 'lung_phantoms')}
_ALPHA_BETA = {'dataset': ('synthetic_alpha_beta',)}
_SYNTHETIC = {'dataset': ('synthetic_writers', 'synthetic_alpha_beta', 'lung_phantoms')}
_WITHOUT_SPLIT = all_but('dataset', DATASETS, ('emnist',))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the clients come from and who of them is trained on."""

    dataset: str = option('emnist', 'The source of the client data.', choices=DATASETS)
    data_path: str | None = option(
        None,
        'A by-client file or folder (npz, csv, parquet, sqlite, images); for emnist, a'
        ' local copy of its SQLite database.',
        only_for=_FILES,
    )
    image_key: str | None = option(
        None,
        'The key or column of the images in --data_path, if it is not found out.',
        only_for=_OWN_FILES,
    )
    label_key: str | None = option(None, 'That of the labels.', only_for=_OWN_FILES)
    client_key: str | None = option(
        None, 'That of the client ids.', only_for=_OWN_FILES
    )
    only_digits: bool = option(
        True,
        'Ten digits; false: all 62 characters (emnist, synthetic_writers).',
        only_for=_CHARACTERS,
    )
    num_writers: int = option(
        200,
        'Clients of a synthetic dataset: writers, or hospitals of lung_phantoms.',
        at_least=1,
        only_for=_SYNTHETIC,
    )
    examples_per_writer: int = option(
        100,
        'Examples of each synthetic writer or hospital.',
        at_least=1,
        only_for=_WRITERS,
    )
    alpha: float = option(
        1.0,
        'How much local models differ in synthetic(alpha, beta).',
        at_least=0,
        only_for=_ALPHA_BETA,
    )
    beta: float = option(
        1.0,
        'How much local data differ in synthetic(alpha, beta).',
        at_least=0,
        only_for=_ALPHA_BETA,
    )
    data_seed: int = option(
        0, 'The seed of synthetic data.', at_least=0, only_for=_SYNTHETIC
    )
    max_clients: int | None = option(
        None, 'Keep only so many clients, the first by name.', at_least=1
    )
    test_fraction: float = option(
        0.1,
        "Share of each client's examples kept for testing, where the source has no"
        ' split of its own.',
        at_least=0,
        below=1,
        only_for=_WITHOUT_SPLIT,
    )
    unseen_fraction: float = option(
        0.1, 'Share of the clients that are never trained on.', at_least=0, below=1
    )
    split_seed: int = option(0, 'The seed of both splits.', at_least=0)

    __repr__ = repr_of_changed

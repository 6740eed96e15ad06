"""The methods by name: one line each, loaded when it is chosen."""

import importlib

from tff_transfer.errors import UserError

# The module and the class of each method's options.
_PLACES = {
    'fedavg': ('fed_avg', 'FedAvg'),
    'fedsgd': ('fed_sgd', 'FedSGD'),
    'fedavgm': ('fed_opt', 'FedAvgM'),
    'fedadagrad': ('fed_opt', 'FedAdagrad'),
    'fedadam': ('fed_opt', 'FedAdam'),
    'fedyogi': ('fed_opt', 'FedYogi'),
    'fedrmsprop': ('fed_opt', 'FedRMSProp'),
    'fedprox': ('fed_prox', 'FedProx'),
    'scaffold': ('scaffold', 'Scaffold'),
    'mime': ('mime', 'Mime'),
    'mimelite': ('mime', 'MimeLite'),
    'fednova': ('fed_nova', 'FedNova'),
    'feddyn': ('fed_dyn', 'FedDyn'),
    'fedexp': ('fed_exp', 'FedExP'),
    'qfedavg': ('q_fed_avg', 'QFedAvg'),
    'fedsam': ('fed_sam', 'FedSAM'),
    'fedlc': ('fed_lc', 'FedLC'),
    'fedrs': ('fed_rs', 'FedRS'),
    'moon': ('moon', 'MOON'),
    'fedntd': ('fed_ntd', 'FedNTD'),
    'feddf': ('fed_df', 'FedDF'),
    'ccvr': ('ccvr', 'CCVR'),
    'local': ('alone', 'Local'),
    'central': ('central', 'Central'),
    'prototype': ('prototype', 'Prototype'),
    'ridge': ('ridge', 'Ridge'),
    'fedper': ('fed_per', 'FedPer'),
    'lgfedavg': ('lg_fed_avg', 'LGFedAvg'),
    'fedrep': ('fed_rep', 'FedRep'),
    'ditto': ('ditto', 'Ditto'),
    'mrmtl': ('mr_mtl', 'MRMTL'),
    'apfl': ('apfl', 'APFL'),
    'pfedme': ('p_fed_me', 'PFedMe'),
    'fedavgft': ('fed_avg_ft', 'FedAvgFT'),
    'fedbabu': ('fed_babu', 'FedBABU'),
    'perfedavg': ('per_fed_avg', 'PerFedAvg'),
    'fedrecon': ('fed_recon', 'FedRecon'),
    'knnper': ('knn_per', 'KNNPer'),
    'personalridge': ('personal_ridge', 'PersonalRidge'),
    'personalprototype': ('personal_prototype', 'PersonalPrototype'),
    'jointft': ('joint_ft', 'JointFT'),
    'ifca': ('ifca', 'IFCA'),
    'fedrod': ('fed_rod', 'FedRoD'),
    'fedproto': ('fed_proto', 'FedProto'),
    'feddistill': ('fed_distill', 'FedDistill'),
    'fedala': ('fed_ala', 'FedALA'),
    'fedamp': ('fed_amp', 'FedAMP'),
}

NAMES = tuple(_PLACES)

# Those whose server takes its step by `Context.server_optimizer`.
BY_SERVER_OPTIMIZER = (
    'fedavg', 'fedsgd', 'fedprox', 'scaffold', 'mime', 'mimelite', 'fednova', 'fedsam',
    'fedlc', 'fedrs', 'moon', 'fedper', 'lgfedavg', 'fedrep', 'ditto', 'mrmtl', 'apfl',
    'pfedme', 'fedavgft', 'fedbabu', 'perfedavg', 'fedrecon', 'knnper', 'jointft',
    'ifca', 'fedrod', 'fedala', 'fedntd', 'ccvr',
)  # fmt: skip

# Those that are defined for SGD on the clients.
BY_CLIENT_SGD = ('scaffold', 'fednova', 'qfedavg', 'pfedme')

# Those whose clients take no step of their own, and so have no rate.
WITHOUT_CLIENT_RATE = ('fedsgd',)

# Those that leave each client a model of its own, which is what is evaluated.
BY_OWN_MODELS = (
    'local', 'fedper', 'lgfedavg', 'fedrep', 'ditto', 'mrmtl', 'apfl', 'pfedme',
    'fedavgft', 'fedbabu', 'perfedavg', 'fedrecon', 'knnper', 'personalridge',
    'personalprototype', 'ifca', 'fedrod', 'fedproto', 'fedala', 'feddistill', 'fedamp',
)  # fmt: skip

# Of these, those whose clients make their models in one pass over their examples.
IN_ONE_PASS = ('knnper', 'personalridge', 'personalprototype', 'ifca')

# Of these, those whose shared model is that of federated averaging, or of the method of
# one round by which they begin.
WITH_GLOBAL_MODEL = (
    'ditto', 'apfl', 'fedavgft', 'knnper', 'personalridge', 'personalprototype',
)  # fmt: skip

# Of these, those whose clients predict by more than weights.
BEYOND_WEIGHTS = ('knnper',)

# Those that are defined for models that end with a dense layer.
BY_LAST_DENSE = ('fedrod', 'fedproto', 'ccvr')

# Those that compare what the layers below that one give, which must be trained.
BY_REPRESENTATION = ('moon', 'fedproto')

# Those whose clients make their passes over the batches of one epoch themselves.
BY_OWN_PASSES = ('jointft',)

# Those that ask how many clients may take part.
BY_POPULATION = ('scaffold', 'feddyn', 'fedamp')

# Those that tell each client its number.
BY_NUMBER = ('fedamp',)

# Those whose server has examples of its own.
BY_PUBLIC_EXAMPLES = ('feddf',)

# Those in whose rounds all clients take part that may.
OF_ALL = ('central', 'prototype', 'ridge', 'personalridge', 'personalprototype')

# Of these, those that have the examples of all clients as those of one.
IN_ONE_PLACE = ('central',)

# Those that send more than the server gets the mean of, or nothing.
BESIDE_THE_MEAN = (
    'mime', 'fednova', 'fedexp', 'qfedavg', 'local', 'central', 'prototype', 'ridge',
    'personalridge', 'personalprototype', 'jointft', 'ifca', 'fedproto', 'feddistill',
    'feddf', 'ccvr', 'fedamp',
)  # fmt: skip

# Those whose clients send what their weights moved away from and nothing else, of which
# the server follows the mean: what it gets may be of earlier weights too. Those without
# an optimizer on the server first; clients of fedsgd send a gradient.
OF_MOVES = ('fedavg', 'fedprox', 'fedsam', 'fedlc', 'fedrs', 'moon', 'fedntd')
ASYNCHRONOUS = (
    *OF_MOVES, 'fedsgd', 'fedavgm', 'fedadagrad', 'fedadam', 'fedyogi', 'fedrmsprop',
)  # fmt: skip

# Those whose clients may have a part of the network, whose update is one of the whole.
BY_SUB_NETWORKS = (
    'fedavg', 'fedprox', 'fedsam', 'fedlc', 'fedrs', 'fedntd', 'fedavgm', 'fedadagrad',
    'fedadam', 'fedyogi', 'fedrmsprop',
)  # fmt: skip

# Those whose clients look at their examples by one gradient of each batch, from which
# all follows that they send.
BY_ONE_GRADIENT = (
    'fedavg', 'fedsgd', 'fedavgm', 'fedadagrad', 'fedadam', 'fedyogi', 'fedrmsprop',
    'fedprox', 'fednova', 'feddyn', 'fedexp', 'fedper', 'lgfedavg', 'mrmtl', 'fedavgft',
    'fedbabu', 'knnper',
)  # fmt: skip

# Those that one round computes, without training.
OF_ONE_ROUND = ('prototype', 'ridge', 'personalridge', 'personalprototype')


def classes() -> dict[str, str]:
    """Returns the names of the methods by those of their options' classes."""
    return {inside: name for name, (_, inside) in _PLACES.items()}


def options(name: str) -> type:
    """Returns the dataclass of a method's options, whose `build` makes the method.

    Args:
      name: One of `NAMES`.

    Raises:
      UserError: There is no such method.
    """
    if name not in _PLACES:
        raise UserError(f'{name!r} is no method; there are {", ".join(NAMES)}')
    module, inside = _PLACES[name]
    return getattr(importlib.import_module(f'{__package__}.{module}'), inside)


def name_of(chosen) -> str | None:
    """Returns the name of the method whose options these are, or None."""
    place = type(chosen).__module__.rpartition('.')[2], type(chosen).__name__
    return next((name for name, found in _PLACES.items() if found == place), None)

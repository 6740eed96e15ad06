"""Which values of a configuration fit together."""

import dataclasses

from tff_transfer.errors import UserError

# The policies of --batch_norm that train with the statistics of batches.
BY_BATCHES = ('local', 'aggregate')


def check(config) -> None:
    """Checks that the parts of a `Config` fit together.

    Raises:
      UserError: In one line that names the flag.
    """
    data, model, training = config.data, config.model, config.training
    if data.dataset == 'by_client' and not data.data_path:
        raise UserError(
            '--dataset=by_client needs --data_path: your npz, csv, parquet or'
            ' sqlite file, or a folder of images'
        )
    if data.data_path and data.dataset not in ('by_client', 'emnist'):
        raise UserError(
            f'--data_path is given, but --dataset={data.dataset} reads no file;'
            ' use --dataset=by_client'
        )
    for key in ('image_key', 'label_key', 'client_key'):
        if getattr(data, key) is not None and data.dataset != 'by_client':
            raise UserError(
                f'--{key} names a part of your own file, but --dataset='
                f'{data.dataset} is not one; use --dataset=by_client'
            )
    without_backbone = model.image_size is not None and model.model != 'backbone'
    if without_backbone and data.dataset != 'by_client':
        raise UserError(
            '--image_size is for a backbone, or for image files of mixed size with'
            f' --dataset=by_client; leave it out of --dataset={data.dataset} with'
            f' --model={model.model}'
        )
    if data.dataset == 'synthetic_alpha_beta' and model.model != 'mlp':
        raise UserError(
            '--dataset=synthetic_alpha_beta has vectors, no images; use --model=mlp'
        )
    if model.finetune != 'head' and model.model != 'backbone':
        raise UserError(
            f'--finetune={model.finetune} is for --model=backbone; --model='
            f'{model.model} has no backbone and is trained as a whole'
        )
    if (model.finetune == 'head_then_all') != (model.head_rounds is not None):
        raise UserError('--finetune=head_then_all and --head_rounds need each other')
    if model.head_rounds is not None and model.head_rounds >= training.rounds:
        raise UserError(
            f'--head_rounds={model.head_rounds} leaves none of'
            f' --rounds={training.rounds} for the rest'
        )
    places = [model.cut_layer, model.top_layers].count(None)
    if model.finetune == 'top' and places != 1:
        raise UserError('--finetune=top needs one of --cut_layer and --top_layers')
    if model.finetune != 'top' and places != 2:
        raise UserError('--cut_layer and --top_layers are for --finetune=top')
    if model.batch_norm != 'frozen' and model.model != 'backbone':
        raise UserError(
            f'--batch_norm={model.batch_norm} is for the layers of a backbone;'
            ' use --model=backbone'
        )
    if model.batch_norm in BY_BATCHES and model.finetune == 'head':
        raise UserError(
            f'--batch_norm={model.batch_norm} is for layers that are trained, but'
            ' --finetune=head trains none of the backbone; use another --finetune'
        )
    if model.unseen_statistics != 'own' and model.batch_norm != 'local':
        raise UserError('--unseen_statistics is for --batch_norm=local')
    if model.model == 'cnn' and model.hidden_units:
        raise UserError('--hidden_units is for --model=backbone or mlp, not cnn')
    if model.dropout and not model.hidden_units and model.model != 'cnn':
        raise UserError('--dropout is for hidden layers; give --hidden_units too')
    if model.head != 'linear' and model.model != 'backbone':
        raise UserError(
            f'--head={model.head} stands on a backbone, but --model is'
            f' {model.model}; use --model=backbone'
        )
    if model.head in ('prototype', 'ridge') and model.hidden_units:
        raise UserError(
            f'--head={model.head} is computed from the features and has no hidden'
            ' layers; leave --hidden_units out'
        )
    if model.head in ('prototype', 'ridge') and model.finetune != 'head':
        raise UserError(
            f'--head={model.head} is computed without training, but'
            f' --finetune={model.finetune} trains the backbone; use'
            ' --finetune=head'
        )
    if model.head in ('prototype', 'ridge') and training.export != 'last':
        raise UserError(
            f'--export={training.export} chooses a round, but --head={model.head} is'
            ' computed in one; leave it out'
        )
    if model.cache_dtype != 'float32' and model.model != 'backbone':
        raise UserError(
            f'--cache_dtype is for the features of a backbone, but --model is'
            f' {model.model}'
        )
    if model.cache_dtype != 'float32' and model.finetune in (
        'all',
        'bias_norm',
        'adapters',
    ):
        raise UserError(
            f'--finetune={model.finetune} keeps no features on disk; leave'
            ' --cache_dtype out'
        )
    if model.ridge_penalty is not None and model.head != 'ridge':
        raise UserError('--ridge_penalty is for --head=ridge')
    for flag, value in dataclasses.asdict(training).items():
        if not flag.startswith('augment_') or not value:
            continue
        if data.dataset == 'synthetic_alpha_beta':
            raise UserError(
                f'--{flag} changes images, but --dataset={data.dataset} has vectors'
            )
        if model.model == 'backbone' and model.finetune in ('head', 'top'):
            raise UserError(
                f'--{flag} changes the images of each round, but --finetune='
                f'{model.finetune} trains on features that are computed once; use'
                ' --finetune=all, head_then_all, bias_norm or adapters, or'
                ' --model=cnn'
            )
    if training.compute_dtype != 'float32' and training.runtime == 'stock':
        raise UserError(
            f'--compute_dtype={training.compute_dtype} is for --runtime=compiled;'
            " TFF's own worker computes in float32"
        )
    for side in ('client', 'server'):
        optimizer = getattr(training, f'{side}_optimizer')
        if getattr(training, f'{side}_momentum') and optimizer != 'sgd':
            raise UserError(
                f'--{side}_momentum is for sgd, but --{side}_optimizer is {optimizer}'
            )

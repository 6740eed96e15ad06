"""Three hospitals with lung images: each alone, together, or one after another.

  python -m experiments.hospital_imaging --output=runs/hospitals
  python -m experiments.hospital_imaging --dataset=chest_xrays \\
      --data_path=pneumoniamnist.npz --backbone=mobilenet_v2_035_feature_vector
  python -m experiments.hospital_imaging --dataset=by_client --data_path=mine.npz

A page with figures, intervals and curves, `report.html`, is written into the folder of
`--output`, with `table.md` and, of every seed, `figures.csv`. See
docs/hospital_imaging.md.
"""

import pathlib
import shlex
import sys
import time

import tensorflow as tf
from absl import flags

import tff_transfer as tt
from experiments import command_line
from experiments.hospital_imaging import hospitals, report, study
from tff_transfer import progress
from tff_transfer.training import sources


def main() -> None:
    """Runs the study, prints its tables and writes its report."""
    hospitals.check_source(FLAGS.dataset, FLAGS.data_path)
    # Of each model some functions are made anew: TensorFlow need not tell it.
    tf.get_logger().setLevel('ERROR')
    start = time.perf_counter()
    model = tt.ModelConfig(backbone=FLAGS.backbone, image_size=FLAGS.image_size)
    backbone = sources.load_backbone(tt.Config(model=model))
    if FLAGS.dataset == 'by_client':  # To say before long work what a split lacks.
        for seed in range(FLAGS.seeds):
            hospitals.load(FLAGS.dataset, FLAGS.data_path, backbone, seed)
    first, judged = None, []
    bar = progress.bar(range(FLAGS.seeds), desc='seeds', unit='seed')
    with tt.runtime.use_compiled():
        for seed in bar:
            data = hospitals.load(FLAGS.dataset, FLAGS.data_path, backbone, seed)
            first = first or data
            for found in study.judged(data, backbone, model, seed):
                judged.append(found)
                bar.set_postfix_str(f'{found.method}, {found.hospital}')
    facts = {
        'data': first.name,
        'what they are': hospitals.SOURCES[FLAGS.dataset],
        'positive': (first.class_names or ('0', '1'))[1],
        'pretrained network': f'{backbone.name}, {backbone.image_size[0]} pixels',
        'seeds': str(FLAGS.seeds),
        'seconds': f'{time.perf_counter() - start:.0f}',
    }
    command = shlex.join(
        ['python', '-m', 'experiments.hospital_imaging', *sys.argv[1:]]
    )
    folder = pathlib.Path(FLAGS.output)
    path = report.write(folder, first, judged, facts, command)
    print((folder / 'table.md').read_text('utf-8'))
    print(f'report: {path}')


if __name__ == '__main__':
    FLAGS = flags.FLAGS
    flags.DEFINE_enum(
        'dataset', 'phantoms', list(hospitals.SOURCES), 'Where the images come from.'
    )
    flags.DEFINE_string(
        'data_path',
        None,
        "MedMNIST's file for chest_xrays; for by_client a file or folder of images of"
        ' two classes, whose clients are the hospitals.',
    )
    flags.DEFINE_string(
        'backbone', 'embedded', 'What gives features, as of experiments.emnist_fedavg.'
    )
    flags.DEFINE_integer(
        'image_size', None, 'Pixels of a side that it sees; its own if not given.'
    )
    flags.DEFINE_integer('seeds', 5, 'Seeds, from 0.', lower_bound=1)
    flags.DEFINE_string('output', 'runs/hospitals', 'The folder of the report.')
    command_line.run(main)

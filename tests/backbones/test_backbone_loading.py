import hashlib
import http.server
import io
import pathlib
import shutil
import socket
import tarfile
import threading
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from tff_transfer import backbones
from tff_transfer.backbones import applications, download
from tff_transfer.errors import UserError

REAL = pathlib.Path(__file__).parents[3] / 'shared/data/mobilenet_v2_035_feature_vector'
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason='the real backbone in ../shared/data is absent'
)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)


class Means(tf.Module):
    """Means of the channels times a matrix, with BatchNorm's way of two phases."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = tf.Variable(matrix, dtype=tf.float32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.float32),
            tf.TensorSpec([], tf.bool),
        ]
    )
    def __call__(self, images, training):
        features = tf.reduce_mean(images, [1, 2]) @ self.matrix
        return tf.where(training, features * 0, features)


MATRIX = np.arange(6.0).reshape(3, 2)


@pytest.fixture
def folder(tmp_path):
    tf.saved_model.save(Means(MATRIX), str(tmp_path / 'means'))
    return tmp_path / 'means'


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TFHUB_CACHE_DIR', str(tmp_path / 'hub'))
    return tmp_path / 'hub'


def by_hand(images=IMAGES, white=255):
    return images.mean((1, 2)) / white @ MATRIX


def archive(folder, path, mode='w:gz'):
    with tarfile.open(path, mode) as file:
        file.add(folder, arcname='.')
    return path


def error(handle, **arguments) -> str:
    with pytest.raises(UserError) as info:
        backbones.load(handle, **arguments)
    message = str(info.value)
    assert '\n' not in message
    return message


def test_folder(folder):
    backbone = backbones.load(folder, image_size=8)
    assert (backbone.name, backbone.handle) == ('means', str(folder))
    assert (backbone.feature_size, backbone.image_size) == (2, (8, 8))
    assert backbone.value_range == (0, 1)
    features = backbone(IMAGES)
    assert features.dtype == tf.float32
    np.testing.assert_allclose(features, by_hand(), rtol=1e-5)


def test_any_size_is_96_by_default(folder):
    assert backbones.load(folder).image_size == (96, 96)


def test_value_range(folder):
    backbone = backbones.load(folder, image_size=(8, 8), value_range=(-1, 1))
    np.testing.assert_allclose(
        backbone(IMAGES), (2 * IMAGES.mean((1, 2)) / 255 - 1) @ MATRIX, rtol=1e-5
    )


@pytest.mark.parametrize('name', ['means.tar.gz', 'means.tgz'])
def test_archive(folder, tmp_path, name):
    backbone = backbones.load(archive(folder, tmp_path / name), image_size=8)
    np.testing.assert_allclose(backbone(IMAGES), by_hand(), rtol=1e-5)
    assert backbone.fingerprint == backbones.load(folder, image_size=8).fingerprint


def keras_model(activation='relu', channels=3, size=8):
    tf.keras.utils.set_random_seed(1)
    return tf.keras.Sequential(
        [
            tf.keras.Input((size, size, channels)),
            tf.keras.layers.Conv2D(4, 3, activation=activation),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.Dropout(0.5),
            tf.keras.layers.GlobalAveragePooling2D(),
        ],
        name='small',
    )


def test_keras_model():
    model = keras_model()
    backbone = backbones.load(model)
    assert (backbone.name, backbone.image_size) == ('small', (8, 8))
    expected = model(IMAGES / np.float32(255), training=False)
    np.testing.assert_allclose(backbone(IMAGES), expected, atol=1e-6)


def test_keras_model_of_grey_images():
    model = keras_model(channels=1)
    grey = IMAGES[..., :1]
    expected = model(grey / np.float32(255), training=False)
    np.testing.assert_allclose(backbones.load(model)(grey), expected, atol=1e-6)


def test_keras_saved_model(tmp_path):
    model = keras_model()
    model.save(tmp_path / 'saved', save_format='tf')
    np.testing.assert_allclose(
        backbones.load(tmp_path / 'saved')(IMAGES),
        model(IMAGES / np.float32(255), training=False),
        atol=1e-6,
    )


class Named(tf.Module):
    """Several outputs by name, as TF-Hub's modules with end points have them."""

    def __init__(self, **functions):
        super().__init__()
        self.functions = functions

    def call(self, images):
        return {name: made(images) for name, made in self.functions.items()}


def vector(images):
    return tf.reduce_mean(images, [1, 2])


def save_signature(path, name='serving_default', dtype=tf.float32, **functions):
    module = Named(**functions)
    call = tf.function(
        module.call, input_signature=[tf.TensorSpec([1, 8, 8, 3], dtype)]
    )
    if dtype == tf.float32:
        spec = tf.TensorSpec([None, 8, 8, 3], dtype)
        call = tf.function(module.call, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures={name: call})
    return path


def test_module_whose_call_captured_tensors(tmp_path):
    inputs = tf.keras.Input((None, None, 3))
    # Its call captures mean and deviation, which are tensors and no variables.
    normalise = tf.keras.layers.Normalization(mean=[1, 2, 3], variance=[4, 1, 9])
    network = tf.keras.Model(inputs, normalise(inputs))

    @tf.function
    def call(images, training=False):
        return vector(network(images, training=training))

    spec = tf.TensorSpec([None, 8, 8, 3])
    served = call.get_concrete_function(spec, training=False)
    call.get_concrete_function(spec, training=True)
    module = tf.train.Checkpoint(variables=network.variables)
    module.__call__ = call
    tf.saved_model.save(module, str(tmp_path / 'm'), {'serving_default': served})
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    expected = ((images - [1, 2, 3]) / [2, 1, 3]).mean((1, 2))
    backbone = backbones.load(tmp_path / 'm')
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-5)


@pytest.mark.parametrize('name', ['serving_default', 'default', 'my_own'])
def test_signature_with_one_vector_among_outputs(tmp_path, name):
    path = save_signature(tmp_path / 'm', name, maps=tf.identity, vectors=vector)
    backbone = backbones.load(path)
    assert backbone.image_size == (8, 8)
    np.testing.assert_allclose(backbone(IMAGES), IMAGES.mean((1, 2)) / 255, rtol=1e-5)


def test_output_named_default_is_taken(tmp_path):
    def doubled(images):
        return 2 * vector(images)

    path = save_signature(tmp_path / 'm', default=vector, other=doubled)
    np.testing.assert_allclose(
        backbones.load(path)(IMAGES), IMAGES.mean((1, 2)) / 255, rtol=1e-5
    )


@pytest.mark.filterwarnings('ignore')
def test_module_of_the_tf1_hub_format(tmp_path):
    def module_of(matrix, name):
        def build():
            images = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 3])
            initial = tf.constant(matrix, tf.float32)
            weights = tf.compat.v1.get_variable('w', initializer=initial)
            outputs = {'default': vector(images) @ weights, 'maps': images}
            hub.add_signature(inputs=images, outputs=outputs)

        path = tmp_path / name
        with tf.Graph().as_default():
            module = hub.Module(hub.create_module_spec(build))
            with tf.compat.v1.Session() as session:
                session.run(tf.compat.v1.global_variables_initializer())
                module.export(str(path), session)
        return backbones.load(path)

    one, equal, other = (
        module_of(MATRIX + added, name)
        for added, name in [(0, 'a'), (0, 'b'), (1, 'c')]
    )
    assert one.image_size == (8, 8)
    np.testing.assert_allclose(one(IMAGES), by_hand(), rtol=1e-5)
    assert one.fingerprint == equal.fingerprint != other.fingerprint


def test_outputs_that_are_no_vectors_are_told(tmp_path):
    message = error(save_signature(tmp_path / 'm', maps=tf.identity))
    assert 'maps: float32 (None, 8, 8, 3)' in message
    message = error(save_signature(tmp_path / 'n', one=vector, two=vector))
    assert 'one: float32 (None, 3), two: float32 (None, 3)' in message
    whole = keras_model()
    message = error(tf.keras.Model(whole.inputs, whole.layers[0].output))
    assert 'float32 (None, 6, 6, 4)' in message and 'pooling' in message


def test_inputs_that_are_no_images_are_told(tmp_path):
    def cast(images):
        return vector(tf.cast(images, tf.float32))

    path = save_signature(tmp_path / 'm', dtype=tf.uint8, default=cast)
    assert 'takes uint8 (1, 8, 8, 3), not float32 images' in error(path)
    assert 'takes float32 (None, 5), not' in error(
        tf.keras.Sequential([tf.keras.Input(5), tf.keras.layers.Dense(2)])
    )


def test_fixed_size_stands_against_the_argument():
    message = error(keras_model(), image_size=9)
    assert '8 x 8 pixels alone, not 9 x 9' in message


@pytest.mark.parametrize(
    'arguments',
    [
        {'image_size': 0},
        {'image_size': (8,)},
        {'image_size': 8.5},
        {'value_range': (1, 0)},
        {'value_range': (0, np.nan)},
        {'weights': 'random'},
    ],
)
def test_bad_arguments(folder, arguments):
    name = next(iter(arguments))
    assert name.replace('_', ' ') in error(folder, **arguments).replace('_', ' ')


def test_broken_folders(folder, tmp_path):
    assert 'there is no backbone' in error(tmp_path / 'absent')
    assert 'no saved_model.pb' in error(tmp_path)
    (tmp_path / 'text').write_text('hello')
    assert 'unknown kind' in error(tmp_path / 'text')
    for name, keep in [
        ('saved_model.pb', 0.5),
        ('variables/variables.index', 0.5),
        ('variables/variables.data-00000-of-00001', 0.9),
        ('variables/variables.data-00000-of-00001', 0.0),
    ]:
        broken = shutil.copytree(folder, tmp_path / 'broken', dirs_exist_ok=True)
        whole = (broken / name).read_bytes()
        (broken / name).write_bytes(whole[: int(keep * len(whole))])
        assert f'backbone {broken} is broken' in error(broken), name
    (broken / 'variables/variables.index').unlink()
    assert 'is broken' in error(broken)


def test_changed_weights_in_a_file_are_noticed(folder):
    data = folder / 'variables/variables.data-00000-of-00001'
    whole = bytearray(data.read_bytes())
    whole[5] ^= 1
    data.write_bytes(whole)
    assert 'is broken' in error(folder)


def test_broken_archives(folder, tmp_path):
    whole = archive(folder, tmp_path / 'whole.tar.gz').read_bytes()
    (tmp_path / 'cut.tar.gz').write_bytes(whole[: len(whole) // 2])
    assert 'cannot be unpacked' in error(tmp_path / 'cut.tar.gz')
    (tmp_path / 'no.tgz').write_bytes(b'hello')
    assert 'cannot be unpacked' in error(tmp_path / 'no.tgz')
    empty = archive(folder / 'assets', tmp_path / 'empty.tar')
    assert 'holds 0 files saved_model.pb' in error(empty)
    with tarfile.open(tmp_path / 'evil.tar', 'w') as file:
        file.addfile(tarfile.TarInfo('../../evil'), io.BytesIO())
    assert 'cannot be unpacked' in error(tmp_path / 'evil.tar')
    assert not (tmp_path.parent / 'evil').exists()


def test_keras_application_with_random_weights():
    backbone = backbones.load('MobileNet', weights='random', image_size=32)
    assert (backbone.feature_size, backbone.image_size) == (1024, (32, 32))
    expected = backbone.keras_model(
        tf.keras.applications.mobilenet.preprocess_input(
            tf.image.resize(tf.cast(IMAGES, tf.float32), (32, 32))
        ),
        training=False,
    )
    np.testing.assert_allclose(backbone(IMAGES), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_random_weights_are_a_function_of_the_seed():
    one, again, other = (
        backbones.load('MobileNet', weights='random', image_size=32, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_random_kernels_have_the_variance_of_he():
    network = applications.build('MobileNetV2', (32, 32), 'random', seed=0)
    kernels = {weight.name: weight.numpy() for weight in network.weights}
    assert kernels['Conv_1/kernel:0'].std() == pytest.approx((2 / 320) ** 0.5, rel=0.02)
    depthwise = kernels['block_16_depthwise/depthwise_kernel:0']
    assert depthwise.std() == pytest.approx((2 / 9) ** 0.5, rel=0.02)
    assert np.all(kernels['bn_Conv1/gamma:0'] == 1)


@pytest.mark.slow
def test_keras_application_with_a_weights_file(tmp_path):
    network = tf.keras.applications.MobileNet(
        include_top=False, weights=None, pooling='avg', input_shape=(32, 32, 3)
    )
    network.save_weights(tmp_path / 'w.h5')
    backbone = backbones.load(
        'MobileNet', weights=str(tmp_path / 'w.h5'), image_size=32
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype('uint8')
    expected = network(images / np.float32(127.5) - 1, training=False)
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-3, atol=1e-5)
    message = error('MobileNetV2', weights=str(tmp_path / 'w.h5'), image_size=32)
    assert 'does not fit' in message
    whole = (tmp_path / 'w.h5').read_bytes()
    (tmp_path / 'w.h5').write_bytes(whole[: len(whole) // 2])
    message = error('MobileNet', weights=str(tmp_path / 'w.h5'), image_size=32)
    assert 'does not fit' in message


@pytest.mark.slow
@needs_real
def test_the_real_backbone_gives_its_weights_to_the_network_by_name():
    by_name = backbones.load('MobileNetV2_035', weights=str(REAL))
    images = np.random.default_rng(0).random((2, 96, 96, 3)).astype(np.float32)
    expected = hub.KerasLayer(str(REAL))(images)
    np.testing.assert_allclose(by_name(images), expected, atol=1e-4)
    message = error('MobileNetV2_050', weights=str(REAL))
    assert 'of another network' in message and 'of shape' in message


@pytest.mark.slow
def test_network_by_name_with_weights_of_a_saved_model(tmp_path):
    network = applications.build('ResNet18', (32, 32), 'random', seed=3)
    draw = np.random.default_rng(0)
    for weight in network.weights:
        if weight.shape.rank == 1:
            weight.assign(draw.uniform(0.5, 1.5, weight.shape))
    saved = str(tmp_path / 'saved')
    tf.saved_model.save(network, saved)
    backbone = backbones.load('ResNet18', weights=saved, image_size=32)
    for found, expected in zip(
        backbone.keras_model.get_weights(), network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    images = draw.random((2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(
        backbone(images), network(images, training=False), rtol=1e-4, atol=1e-4
    )
    message = error('ResNet18GroupNorm', weights=saved, image_size=32)
    assert 'stem_gn/gamma:0, of shape (64,), is absent there' in message
    assert saved in message


@pytest.mark.slow
def test_weights_of_another_width_do_not_fit(tmp_path):
    saved = str(tmp_path / 'saved')
    network = applications.build('MobileNet_025', (32, 32), 'random', seed=0)
    tf.saved_model.save(network, saved)
    message = error('MobileNet_050', weights=saved, image_size=32)
    assert 'conv1/kernel:0, of shape (3, 3, 3, 16), is of shape (3, 3, 3, 8)' in message
    assert backbones.load('MobileNet_025', weights=saved, image_size=48)


def test_layers_that_keras_numbers_are_told_by_their_order():
    def network(sizes):
        images = tf.keras.Input((8, 8, 3))
        x = images
        for size in sizes:
            x = tf.keras.layers.Conv2D(size, 1)(x)
        return tf.keras.Model(images, x)

    # More than ten, since conv2d_10 comes before conv2d_9 in the alphabet.
    source, target = network(range(1, 14)), network(range(1, 14))
    assert source.weights[0].name != target.weights[0].name
    draw = np.random.default_rng(0)
    source.set_weights([draw.normal(size=w.shape) for w in source.get_weights()])
    values = {w.name: w.numpy() for w in reversed(source.weights)}
    applications.copy_weights(values, target)
    for found, expected in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match='absent'):
        applications.copy_weights(dict([*values.items()][1:]), target)


def test_keras_application_that_cannot_be():
    assert 'did you mean MobileNetV2' in error('MobilenetV2')
    assert 'needs weights' in error('ResNet50')
    assert 'no weights file /absent' in error('ResNet50', weights='/absent')
    assert 'at least 75x75' in error('InceptionV3', weights='random', image_size=32)


def test_every_application_has_its_preprocessing():
    families = applications.families()
    assert families['ResNet50'] == 'resnet' and families['ResNet50V2'] == 'resnet_v2'
    assert families['MobileNetV3Small'] == 'mobilenet_v3'
    ours = [name for name, family in families.items() if not family]
    assert ours == ['ResNet18', 'ResNet18GroupNorm']
    for family in filter(None, families.values()):
        assert callable(getattr(tf.keras.applications, family).preprocess_input)


def test_fingerprint_follows_weights_operations_and_preprocessing(tmp_path):
    def saved(name, matrix):
        tf.saved_model.save(Means(matrix), str(tmp_path / name))
        return tmp_path / name

    changed = MATRIX.copy()
    changed[2, 1] += 1e-6
    one, two, equal = (
        backbones.load(saved(name, matrix), image_size=8).fingerprint
        for name, matrix in [('a', MATRIX), ('b', changed), ('c', MATRIX)]
    )
    assert one == equal != two
    assert len(one) == 64 and int(one, 16)
    resized = backbones.load(tmp_path / 'a', image_size=9).fingerprint
    ranged = backbones.load(
        tmp_path / 'a', image_size=8, value_range=(0, 2)
    ).fingerprint
    assert len({one, two, resized, ranged}) == 4

    model = keras_model()
    relu = backbones.load(model).fingerprint
    assert backbones.load(keras_model()).fingerprint == relu
    # Equal weights, used in another way.
    assert backbones.load(keras_model('elu')).fingerprint != relu
    mean = model.layers[1].moving_mean
    mean.assign_add(tf.ones_like(mean))
    assert backbones.load(model).fingerprint != relu


def test_fingerprint_sees_constants_in_the_graph(tmp_path):
    def scaled(factor):
        return lambda images: factor * vector(images)

    one, two = (
        backbones.load(
            save_signature(tmp_path / str(factor), default=scaled(factor))
        ).fingerprint
        for factor in (1.5, 2.5)
    )
    assert one != two


def test_export_with_a_head(folder, tmp_path):
    for number, handle in enumerate([folder, keras_model()]):
        backbone = backbones.load(handle, image_size=8)

        class Exported(tf.Module):
            def __init__(self, backbone):
                super().__init__()
                self.backbone = backbone
                self.head = tf.Variable([[2.0]] * backbone.feature_size)

            @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.uint8)])
            def __call__(self, images):
                return self.backbone(images) @ self.head

        tf.saved_model.save(Exported(backbone), str(tmp_path / f'export{number}'))
        expected = backbone(IMAGES[..., :1]).numpy().sum(1, keepdims=True) * 2
        loaded = tf.saved_model.load(str(tmp_path / f'export{number}'))
        np.testing.assert_allclose(loaded(IMAGES[..., :1]), expected, rtol=1e-5)


def test_call_can_be_traced_and_is_traced_once_for_a_shape(folder):
    backbone = backbones.load(folder, image_size=8)
    traced = tf.function(lambda images: backbone(images))
    np.testing.assert_allclose(traced(IMAGES), by_hand(), rtol=1e-5)
    for batch in (1, 2, 3):
        backbone(IMAGES[:batch])
    assert backbone._traced.experimental_get_tracing_count() == 1


@pytest.fixture
def server():
    """Serves `pages` by path, as (status, body, declared length)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        pages = {}
        asked = []

        def do_GET(self):
            self.asked.append(self.path)
            status, body, length = self.pages.get(self.path, (404, b'', 0))
            self.send_response(status)
            self.send_header('Content-Length', str(length))
            self.end_headers()
            self.wfile.write(body)
            if len(body) < length:
                time.sleep(3)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(('localhost', 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        Handler.url = f'http://localhost:{running.server_port}'
        yield Handler
        running.shutdown()


def test_url_is_downloaded_once_and_then_needs_no_network(
    server, folder, tmp_path, hub_cache, monkeypatch
):
    body = archive(folder, tmp_path / 'm.tar.gz').read_bytes()
    page = '/google/means_035_8/feature_vector/4'
    server.pages[page + '?tf-hub-format=compressed'] = (200, body, len(body))
    url = server.url + page
    backbone = backbones.load(url, image_size=8)
    np.testing.assert_allclose(backbone(IMAGES), by_hand(), rtol=1e-5)
    assert backbone.name == 'google/means_035_8/feature_vector/4'
    assert backbone.handle == url
    # Where TF-Hub itself looks for it.
    assert hub.resolve(url) == str(hub_cache / hashlib.sha1(url.encode()).hexdigest())
    server.pages.clear()
    assert backbones.load(url, image_size=8).fingerprint == backbone.fingerprint
    assert len(server.asked) == 1


def test_damaged_archive_is_one_line(folder, tmp_path):
    whole = archive(folder, tmp_path / 'm.tar', 'w').read_bytes()
    stream = zlib.compressobj(level=0, wbits=31)
    start = stream.compress(whole[:15000]) + stream.flush(zlib.Z_FULL_FLUSH)
    (tmp_path / 'm.tgz').write_bytes(start + b'\xff' * 500)
    assert 'cannot be unpacked (Error -3' in error(tmp_path / 'm.tgz')


def test_server_that_speaks_another_language_is_one_line(hub_cache):
    with socket.create_server(('localhost', 0)) as strange:

        def answer():
            connection, _ = strange.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b'220 mail server ready\r\n')

        threading.Thread(target=answer, daemon=True).start()
        url = f'http://localhost:{strange.getsockname()[1]}/google/m/1'
        assert 'cannot be downloaded (220 mail server ready)' in error(url)


@pytest.mark.parametrize(
    ('url', 'size'),
    [
        (
            'https://tfhub.dev/google/imagenet/mobilenet_v2_035_128/feature_vector/5',
            128,
        ),
        ('https://tfhub.dev/google/tf2-preview/mobilenet_v2/feature_vector/4', 96),
        (
            'https://www.kaggle.com/models/google/mobilenet-v2/tensorFlow2/'
            '035-160-feature-vector/2',
            160,
        ),
        (
            'https://www.kaggle.com/models/google/mobilenet-v2/frameworks/TensorFlow2/'
            'variations/035-160-feature-vector/versions/2',
            160,
        ),
    ],
)
def test_handles_in_the_cache_work_offline(folder, hub_cache, url, size):
    shutil.copytree(folder, hub_cache / hashlib.sha1(url.encode()).hexdigest())
    backbone = backbones.load(url)
    assert backbone.image_size == (size, size)
    assert backbone.feature_size == 2


def test_broken_module_in_the_cache(folder, hub_cache):
    url = 'https://tfhub.dev/google/broken/1'
    cached = hub_cache / hashlib.sha1(url.encode()).hexdigest()
    shutil.copytree(folder, cached)
    (cached / 'saved_model.pb').unlink()
    message = error(url)
    assert url in message and f'delete {cached}' in message


def test_servers_that_fail(server, hub_cache, monkeypatch):
    monkeypatch.setattr(download, 'DEADLINE_SECONDS', 1)
    query = '?tf-hub-format=compressed'
    server.pages['/page' + query] = (200, b'<html>', 6)
    server.pages['/stalls' + query] = (200, b'\x1f\x8b', 10**6)
    assert '404' in error(server.url + '/absent')
    assert 'valid module' in error(server.url + '/page')
    assert 'timed out' in error(server.url + '/stalls')
    assert not any(hub_cache.glob('*.lock')) and not any(hub_cache.glob('*.tmp'))


def test_unreachable_servers(hub_cache):
    with socket.socket() as closed:
        closed.bind(('localhost', 0))
        url = f'http://localhost:{closed.getsockname()[1]}/m/1'
        message = error(url)
    assert url in message and 'refused' in message
    assert 'TFHUB_CACHE_DIR' in message and 'embedded' in message


def test_name_lookup_that_hangs_has_a_deadline(hub_cache, monkeypatch):
    monkeypatch.setattr(download, 'DEADLINE_SECONDS', 1)
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *_, **__: time.sleep(4))
    start = time.monotonic()
    assert 'no answer within 1 s' in error('https://tfhub.dev/google/x/1')
    assert time.monotonic() - start < 3


@pytest.mark.slow
def test_server_that_never_answers_is_given_up_within_ten_seconds(hub_cache):
    with socket.create_server(('localhost', 0)) as silent:
        start = time.monotonic()
        message = error(f'http://localhost:{silent.getsockname()[1]}/m/1')
        assert 'no answer' in message or 'timed out' in message
        assert time.monotonic() - start < 10


def test_embedded():
    embedded = pytest.importorskip('tff_transfer.backbones.embedded')
    if not pathlib.Path(embedded.PATH, 'saved_model.pb').exists():
        pytest.skip('the embedded backbone is not there yet')
    backbone = backbones.load('embedded')
    assert backbone.name == 'embedded'
    assert backbone.value_range == tuple(embedded.VALUE_RANGE)
    assert np.isfinite(backbone(IMAGES)).all()


@needs_real
def test_real_backbone_equals_hub_keras_layer():
    images = np.random.default_rng(0).random((2, 96, 96, 3)).astype(np.float32)
    backbone = backbones.load(str(REAL))
    assert (backbone.feature_size, backbone.image_size) == (1280, (96, 96))
    expected = hub.KerasLayer(str(REAL))(images)
    np.testing.assert_allclose(backbone(images), expected, atol=1e-4)

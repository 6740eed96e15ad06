"""A disk that is full, or a place that breaks, while a run writes: one line."""

import pytest
import tensorflow as tf
from full_disk import room_for
from test_loop import make_config, make_data

from tff_transfer.errors import UserError
from tff_transfer.records import export, metrics, report
from tff_transfer.records.metrics import Records
from tff_transfer.records.run_directory import writing
from tff_transfer.training import loop


@pytest.mark.filterwarnings('error::pytest.PytestUnraisableExceptionWarning')
def test_a_full_disk_in_export_is_one_line(tmp_path, monkeypatch, capfd):
    config, data = make_config(rounds=1), make_data()
    run_dir = tmp_path / 'run'
    save = export.save

    def full(*arguments):
        with room_for(40):  # Less than the SavedModel's weights take.
            save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(export, 'save', full)
        with pytest.raises(UserError, match='File too large.*is kept'):
            loop.train(config, run_dir, data=data)
    result = loop.train(config, run_dir, data=data)
    model, keras = run_dir / 'model', run_dir / 'model.keras'
    for write, size in (
        (lambda: save(result.setup, result.weights, model), 40),
        (lambda: save(result.setup, result.weights, model), 2000),
        (lambda: report.write(config, result, data, ['data']), 2000),
        (lambda: export.save_keras(result.setup, result.weights, keras), 2000),
    ):
        with (
            pytest.raises(UserError, match='File too large.*is kept') as caught,
            writing(run_dir),
            room_for(size),
        ):
            write()
        assert '\n' not in str(caught.value)
    assert not [*run_dir.glob('.*.part')]
    assert tf.saved_model.load(str(model))(data.x[:2])['logits'].shape == (2, 3)
    assert 'Exception ignored' not in capfd.readouterr().err


@pytest.mark.parametrize('size', [200, 600])
def test_a_full_disk_under_the_rows_is_one_line(tmp_path, size):
    columns = ('round', 'seen/accuracy')
    rows = Records(tmp_path, columns, up_to_round=-1)
    with pytest.raises(UserError, match='File too large.*is kept') as caught:
        for number in range(100):
            with room_for(size):
                rows.append({'round': number, 'seen/accuracy': 1 / (1 + number)})
    assert '\n' not in str(caught.value)
    rows.close()
    found = metrics.read(tmp_path / 'metrics.csv')
    assert 1 < len(found) < 50
    again = Records(tmp_path, columns, up_to_round=1)
    again.append({'round': 2, 'seen/accuracy': 0.5})
    again.close()
    assert [row['round'] for row in metrics.read(tmp_path / 'metrics.csv')] == [0, 1, 2]

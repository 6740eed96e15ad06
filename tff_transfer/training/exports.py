"""Which trained models a run exports, and in what forms."""

import pathlib
import urllib.parse

from tff_transfer.data.federated import FederatedData
from tff_transfer.models.generative.architecture import all_weights
from tff_transfer.records import export, network_weights
from tff_transfer.training.result import Result
from tff_transfer.training.training_config import TrainingConfig


def check_clients(config: TrainingConfig, data: FederatedData) -> None:
    """Checks that there are the clients whose models a configuration asks for.

    Raises:
      UserError: One is unknown.
    """
    for client in config.export_client:
        data.number_of(client)


def write(config: TrainingConfig, result: Result) -> None:
    """Writes the trained models in the forms that a configuration asks for."""
    setup, weights, run_dir = result.setup, result.weights, result.run_dir
    export.save(setup, weights, run_dir / 'model')
    if setup.model.networks:
        of_networks = all_weights(setup.model, weights)
        network_weights.save(of_networks, run_dir / network_weights.FILE)
    if config.tflite:
        export.save_tflite(run_dir / 'model', run_dir / 'model.tflite')
    if config.export_keras:
        export.save_keras(setup, weights, run_dir / 'model.keras')
    for client in config.export_client:
        export.save(setup, result.weights_of(client), client_model(run_dir, client))


def client_model(run_dir: pathlib.Path, client_id: str) -> pathlib.Path:
    """Returns the folder of a client's own model in a run directory.

    What a file's name cannot hold is written as in a URL, `%2F` for a slash.
    """
    name = urllib.parse.quote(client_id, safe=' ')
    if not name.strip('.'):  # The folder itself, and the one above.
        name = name.replace('.', '%2E')
    return run_dir / 'clients' / name / 'model'

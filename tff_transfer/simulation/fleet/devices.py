"""How long clients take for a round, by what their devices can do."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Devices:
    """What the devices of clients can do; each array is over clients.

    Attributes:
      speeds: Floating point operations a second, float64 [clients].
      up: Bytes a second from the device to the server, float64 [clients].
      down: Bytes a second from the server to the device, float64 [clients].
      latency: Seconds that a client's round takes besides, for its messages' way.
    """

    speeds: np.ndarray
    up: np.ndarray
    down: np.ndarray
    latency: float = 0.0

    def __len__(self) -> int:
        """Returns how many clients there are."""
        return len(self.speeds)


def seconds(
    devices: Devices,
    clients: np.ndarray,
    examples: np.ndarray,
    flops_per_example: float,
    bytes_up: float,
    bytes_down: float,
) -> np.ndarray:
    """Returns how long a round takes clients, from being asked to having reported.

    It is bytes down / bandwidth + examples x operations / speed + bytes up /
    bandwidth + latency; the model of FedScale (Lai et al. 2022,
    `ClientMetadata.get_completion_time`), with operations in place of a time for each
    example, and a bandwidth for each direction.

    Args:
      devices: Those of all clients.
      clients: Who takes part, by their numbers, int64 [some].
      examples: How many examples each trains on, all epochs together, [some].
      flops_per_example: Floating point operations of training on one.
      bytes_up: What a client sends.
      bytes_down: What a client gets.

    Returns:
      Simulated seconds, float64 [some].
    """
    trains = np.asarray(examples, np.float64) * flops_per_example
    return (
        bytes_down / devices.down[clients]
        + trains / devices.speeds[clients]
        + bytes_up / devices.up[clients]
        + devices.latency
    )

"""What a federated method is: a few pure functions in the field's own verbs.

No method knows TFF's wiring (`compose`), the loop, the runtime, or how its clients
were chosen. Its functions are traced by TensorFlow: values are nested tuples, named
tuples and dicts of tensors.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.algorithms.noisy_gradients import GradientNoise
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.errors import UserError
from tff_transfer.models import Model


class Client(NamedTuple):
    """One client in one round.

    Attributes:
      batches: Its training examples, a `tf.data.Dataset` of batches as the model's
        input_spec has them.
      kept: What the method has it keep from round to round.
      personal: Its own trained weights, which never travel, in the model's order.
      statistics: BatchNorm's statistics at the start of the round.
      round: The round, from 1, int32 [].
      rate: What its learning rate is multiplied by in this round, float32 []; `()`
        where all have the same.
      number: Its number among those that may take part, int32 [], where the method
        asks for it (`Method.numbered`) and the client is one of them; else `()`.
    """

    batches: Any
    kept: Any
    personal: tuple
    statistics: tuple
    round: Any
    rate: Any = ()
    number: Any = ()


class Update(NamedTuple):
    """What comes of a client's round.

    Attributes:
      delta: What the server gets the weighted mean of, over clients.
      weight: This client's weight in that mean, float32 [].
      sums: Small values by name that the server gets the sums of.
      kept: What the client keeps.
      personal: Its own trained weights.
      moments: BatchNorm's statistics of its examples (see `batch_norm.moments`).
      metrics: The model's unfinalized metrics of training.
      examples: How many examples it trained on, float32 []: without any the update
        counts for nothing.
    """

    delta: Any
    weight: Any
    sums: Mapping[str, Any]
    kept: Any
    personal: tuple
    moments: tuple
    metrics: Any
    examples: Any


class Aggregate(NamedTuple):
    """What the server gets of all clients of a round.

    Attributes:
      delta: The weighted mean of their `Update.delta`.
      sums: The sums of their `Update.sums`.
      clients: How many took part with a finite update and an example, float32 [].
      round: The round, from 1, int32 [].
    """

    delta: Any
    sums: Mapping[str, Any]
    clients: Any
    round: Any


@dataclasses.dataclass(frozen=True)
class Method:
    """A federated method.

    Attributes:
      initialize: Makes the server's state, a named tuple that has the shared trained
        weights as `weights`.
      broadcast: Makes of that state what each client gets.
      client_update: What a client does with it: (message, `Client`) to `Update`.
      server_update: Makes the next state of a state and an `Aggregate`.
      kept: Makes what a client keeps before its first round, if it keeps anything.
      gather: A round of communication before `client_update`, if there is one:
        (message, `Client`) to a value and its weight. The weighted mean over the
        round's clients is a third argument of `client_update`, and `gathered` of
        `server_update`.
      personal: Makes the shared weights of one client's own model of (message,
        `Client`), if clients have models of their own.
      adapt: What a client does before its model is used, whether or not it ever took
        part, if that is what makes the model: (message, `Client`) to the `Client`
        that has it, which `personal` reads. Nothing of it travels or stays. If not
        given, clients are judged by what they keep, and one that never took part does
        what a client does in a round.
      outputs: Makes of (message, `Client`, inputs) what a client predicts, where its
        own model is more than the weights that `personal` makes: like the model's
        outputs, [batch, ...], of what the model takes, [batch, ...].
      evaluated: Gives the shared weights of a state that are evaluated; its `weights`
        if not given.
      with_weights: Makes of a state the one that has other shared weights, from which
        training goes on; only its `weights` change if not given.
      choices: Gives of a state the shared weights that a round leaves to choose
        among, if it leaves any, by what is said of each. The ones of the best
        accuracy on the test examples of seen clients go `with_weights`, of equally
        good ones the last.
      measured: Gives scalars by name of a state after a round, which are recorded as
        columns `server/NAME` of `metrics.csv`; none if not given. Early stopping goes
        by `validation_loss`, if there is one.
      computed: The names of `Update.sums` that a server would compute itself of what
        clients send: they do not travel.
      numbered: Whether a client must be told its number in a round.
      message: What a client would get of a server that makes a message of its own for
        each, arrays, where what is broadcast has all that these are made of: by this
        bytes are counted.
    """

    initialize: Callable[[], Any]
    broadcast: Callable[[Any], Any]
    client_update: Callable[..., Update]
    server_update: Callable[..., Any]
    kept: Callable[[], Any] | None = None
    gather: Callable[[Any, Client], tuple[Any, Any]] | None = None
    personal: Callable[[Any, Client], tuple] | None = None
    adapt: Callable[[Any, Client], Client] | None = None
    outputs: Callable[[Any, Client, Any], Any] | None = None
    evaluated: Callable[[Any], tuple] = lambda server: server.weights
    with_weights: Callable[[Any, tuple], Any] = lambda server, weights: server._replace(
        weights=weights
    )
    choices: Callable[[Any], Mapping[str, tuple]] | None = None
    measured: Callable[[Any], Mapping[str, Any]] = lambda server: {}
    computed: Sequence[str] = ()
    numbered: bool = False
    message: Any = None


@dataclasses.dataclass(frozen=True)
class Context:
    """What a method is made for.

    Attributes:
      model: The model.
      client_optimizer: The optimizer on the clients; it starts anew in each round.
      server_optimizer: The optimizer on the server, for what clients moved away from.
      population: How many clients may take part, of whom a round has some.
      weighting: The weight of a client in the mean: its `examples`, as McMahan et al.
        2017, or `uniform`.
      client_schedule: What the clients' learning rate is multiplied by in a round, if
        it changes: a function of the round, int32 [], to float32 [].
      server_schedule: The same for the server's.
      parts: The parts of the model that stay with each client (see `Model.parts`).
      epochs: How many passes a client may make, where it makes them itself over
        batches of one epoch (`registry.BY_OWN_PASSES`).
      seed: The seed of what a method draws.
      gradient_noise: What is done to the gradient of each example, if anything.
      public: The server's own examples, if it has any.
    """

    model: Model
    client_optimizer: tff.learning.optimizers.Optimizer
    server_optimizer: tff.learning.optimizers.Optimizer
    population: int = 1
    weighting: str = 'examples'
    client_schedule: Callable[[Any], Any] | None = None
    server_schedule: Callable[[Any], Any] | None = None
    parts: Sequence[str] = ()
    epochs: int = 1
    seed: int = 0
    gradient_noise: GradientNoise | None = None
    public: PublicExamples | None = None

    @property
    def local_statistics(self) -> bool:
        """Whether BatchNorm's scales and statistics stay with each client (FedBN)."""
        return self.model.statistics is not None and self.model.statistics.local

    @property
    def personal(self) -> frozenset[int]:
        """The numbers of the model's trained weights that stay with each client."""
        found = self.model.statistics.scales if self.local_statistics else frozenset()
        return found | self.numbers(self.parts)

    def numbers(self, parts: Sequence[str]) -> frozenset[int]:
        """Returns the numbers of the trained weights of some of the model's parts.

        Raises:
          UserError: The model has no part of that name.
        """
        found = frozenset()
        for name in parts:
            if name not in self.model.parts:
                known = ', '.join(self.model.parts) or 'none by name'
                raise UserError(f'the model has no part {name!r}; it has {known}')
            found |= self.model.parts[name]
        return found

    def check_divided(self) -> None:
        """Checks that some trained weights stay with each client, and others do not.

        Raises:
          UserError: It is not so.
        """
        count = len(self.model.functional.initial_weights[0])
        if not 0 < len(self.personal) < count:
            which = 'all' if self.personal else 'none'
            raise UserError(
                f'of what is trained, {which} would stay with each client'
                f' ({", ".join(self.parts)}); train more (--finetune,'
                ' --hidden_units), or choose other parts'
            )

    def check_last_dense(self, who: str) -> None:
        """Checks that the last trained weights are a dense layer's kernel and bias.

        Raises:
          UserError: They are not, so that `who`, a method, is not defined.
        """
        shapes = [weight.shape for weight in self.initial[-2:]]
        dense = [len(shape) for shape in shapes] == [2, 1]
        if self.model.representation is None or not dense:
            raise UserError(
                f'{who} is for models whose last layer is a dense one with a bias;'
                ' use such a head, as --head=linear'
            )

    def check_trained_representation(self, who: str) -> None:
        """Checks that what the last dense layer takes hangs on trained weights.

        Raises:
          UserError: It does not, so that `who`, a method, has nothing to train.
        """
        if not self.model.trains_representation:
            raise UserError(
                f'{who} compares what the layers below a last dense one give, but none'
                ' of them is trained; use a head with hidden layers, or train the'
                ' backbone'
            )

    @property
    def initial(self) -> tuple:
        """The shared trained weights at the start."""
        return self.split(self.model.functional.initial_weights[0])[0]

    @property
    def classes(self) -> int:
        """The number of classes.

        Raises:
          UserError: The model's task has none.
        """
        if self.model.task.classify is None:
            raise UserError(
                'the method needs the classes of a classification, but the task has'
                ' none; choose another method'
            )
        return self.model.output_spec.shape[-1]

    def zeros(self) -> tuple:
        """Returns zeros of the shapes of the shared trained weights."""
        return tuple(map(tf.zeros_like, self.initial))

    def split(self, trained: Sequence) -> tuple[tuple, tuple]:
        """Returns the shared ones of all trained weights, and the personal ones."""
        parts = ([], [])
        for number, value in enumerate(trained):
            parts[number in self.personal].append(value)
        return tuple(parts[0]), tuple(parts[1])

    def join(self, shared: Sequence, personal: Sequence) -> tuple:
        """Returns all trained weights in the model's order."""
        sources = (iter(shared), iter(personal))
        count = len(self.model.functional.initial_weights[0])
        return tuple(next(sources[n in self.personal]) for n in range(count))

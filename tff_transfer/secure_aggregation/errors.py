"""Why a party of the protocol stops, before more is revealed or a sum is wrong."""


class ProtocolError(RuntimeError):
    """A party refuses to go on; the message is one line."""


class BelowThreshold(ProtocolError):
    """Too few clients are left to recover what those who dropped out masked with."""


class WrongMessage(ProtocolError):
    """A message is cut short, late, or of another session, round or party."""


class BadKey(ProtocolError):
    """Public keys are equal, or one is of a kind with which nothing can be agreed."""


class TamperedShares(ProtocolError):
    """Shares that came through the server are not what their sender sealed."""


class InconsistentShares(ProtocolError):
    """Shares do not give the secret that its owner committed to."""


class BothSharesAsked(ProtocolError):
    """The server asks for what would take both masks off one client's vector."""

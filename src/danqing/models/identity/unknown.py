"""What to say of a file that no rule knows."""

from __future__ import annotations

from danqing.models.identity.evidence import Evidence
from danqing.spec.files import FileIdentity

_SHOWN = 5
# (pieces of names, what it looks like)
_LIKE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("exp_avg",), "an optimizer's state, kept to go on with a training"),
    (("optimizer",), "an optimizer's state, kept to go on with a training"),
    (("discriminator",), "the discriminator of a GAN, used in training only"),
    (("net_d",), "the discriminator of a GAN, used in training only"),
    (("attn2.to_k",), "a part of a Stable Diffusion UNet"),
    (("transformer_blocks",), "a part of a diffusion transformer"),
    (("vision_model",), "a part of a picture encoder"),
    (("text_model",), "a part of a text encoder"),
    (("self_attn", "mlp"), "a language model"),
    (("decoder", "encoder"), "an encoder and decoder, such as an autoencoder"),
    (("residual_group",), "a network that restores or enlarges pictures"),
    (("running_mean",), "a convolutional network, such as a classifier or detector"),
)


def unknown(names: Evidence) -> FileIdentity:
    """The kind "unknown", with the names that were seen and what they look like."""
    count = len(names.tensors)
    if not count:
        words = ", ".join(list(names.metadata)[:_SHOWN])
        return FileIdentity(kind="unknown", why=f"no tensors in it; {f'it says {words}' if words else 'it is empty'}")
    shown = ", ".join(f"{name} {list(info.shape)}" for name, info in list(names.tensors.items())[:_SHOWN])
    like = next((what for pieces, what in _LIKE if all(names.first(piece) for piece in pieces)), None)
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    guess = f"; it looks like {like}" if like else "; it looks like nothing that is known here"
    return FileIdentity(
        kind="unknown", precision=names.precision, facts={"tensors": count}, why=f"seen: {shown}{more}{guess}"
    )

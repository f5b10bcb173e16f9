"""The words of the report's chapters, the captions of the kit's figures, and the equations; said by report.html."""

from collections.abc import Mapping
from dataclasses import dataclass

from hwkit.language import marked


@dataclass(frozen=True)
class Words:
    """What a chapter says where its part has no text; and captions by the names of the figures' files."""

    text: str
    captions: Mapping[str, str]


# fmt: off
CHAPTERS = {  # by their headings, as the notebooks have them too
    marked("Model description"): Words(
        marked("A denoising diffusion probabilistic model (Ho et al. 2020). The forward process mixes an image x₀"
               " with Gaussian noise ε, more of it at each time t, until at t = T next to nothing of the image is"
               " left (equation 1; how much is left is in the table, as √ᾱ_T). A U-Net f that is given x_t and t "
               "is trained by squared error (equation 2; y is what the table says that the network predicts, w "
               "the weight that the next chapter names). From its answer follow a guess x̂₀ of the image and one "
               "of the noise, ε̂. New images are made by going back from pure noise, from each time t to an "
               "earlier one s: DDPM takes the mean of equation 3 and adds fresh noise of variance β̃, but none in"
               " the last step; DDIM (Song et al. 2021) adds none at all (equation 4).\nThe network has residual "
               "blocks (group norm, SiLU, 3×3 convolutions) at two sizes of the picture, and skips from the way "
               "down to the way up, so that the place of each stroke is not lost. The time goes into each block."),
        {
            "network": marked("The U-Net. A box is as high as the picture that the part puts out and as wide as "
                               "it has channels; below it: channels × height × width, and the parameters. Dashed:"
                               " skips."),
            "schedule": marked("Left: the share √ᾱ of the image in x_t. Right: the signal-to-noise ratio. Both "
                                "for the linear and for the cosine schedule."),
        },
    ),
    marked("Implementation details"): Words(
        marked("The data are the training digits of MNIST, 28×28 RGB in [−1, 1], without labels or augmentation. "
               "All images are sampled with the moving average (EMA) of the weights, which takes out the noise of"
               " the last training steps. The norm of the gradient is clipped, so that one odd batch cannot spoil"
               " the weights. Training and sampling are seeded, so that the same recipe on the same machine gives"
               " the same weights and the same images."),
        {
            "loss_curve": marked("The training loss over the images seen. Where a run was made in several parts,"
                                  " the learning rate began anew in each, which can show as a step."),
        },
    ),
    marked("Result analysis"): Words(
        marked("FID is the distance between the images and MNIST’s training digits in the features of a network. "
               "“FID by pytorch-fid” takes Inception’s features, as the homework asks for. “digit-FID” takes "
               "those of a small classifier of digits, and has a scale of its own: the two numbers cannot be "
               "compared, and a bound on one (such as “FID under 30”) says nothing about the other. Each is to be"
               " read beside what as many real digits score (its floor: test-vs-train of unseen digits, "
               "train-subset of training digits), since no model can be told from real digits below that.\n"
               "The sampler of the images is named with its evaluations of the network: dpm++sde is DPM-Solver++ "
               "with fresh noise (Lu et al. 2022). Guided, it is led away from the guesses of a smaller network "
               "(Karras et al. 2024), by the weight that is named."),
        {
            "diffusion_grid_ddpm": marked("DDPM, all T steps: eight samples (rows) at eight equally spaced times"
                                           " (columns), both ends included, from noise to digit."),
            "diffusion_grid_ddim": marked("DDIM, 50 steps, at the same times and from the same noise."),
            "samples": marked("The first of the images, not the best; a hundred at most."),
            "fid_curve": marked("Digit-FID against the evaluations of the network that an image takes."),
            "digit_histogram": marked("How often each digit comes, as the kit’s classifier reads the images."),
            "closest_pairs": marked("The images that come closest to a training image, which stands below each."),
        },
    ),
    marked("Runs side by side"): Words(
        marked("What else was trained here. Values of digit-FID can be compared where they are of as many images."),
        {},
    ),
    marked("Conclusion"): Words(
        marked("(Your own words stand here: what worked, what did not, and what you would try next.)"),
        {},
    ),
}
# fmt: on

EQUATIONS = (
    r"x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon, \qquad \varepsilon \sim \mathcal{N}(0, I)",
    r"L = \mathbb{E}_{\,t,\,x_0,\,\varepsilon}\; w_t\, \Vert y - f(x_t, t) \Vert^2",
    r"\mu = \dfrac{\sqrt{\bar\alpha_s}\,\beta}{1-\bar\alpha_t}\,\hat x_0 + "
    r"\dfrac{\sqrt{1-\beta}\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\,x_t, \qquad "
    r"\tilde\beta = \dfrac{1-\bar\alpha_s}{1-\bar\alpha_t}\,\beta, \qquad "
    r"\beta = 1 - \dfrac{\bar\alpha_t}{\bar\alpha_s}",
    r"x_s = \sqrt{\bar\alpha_s}\;\hat x_0 + \sqrt{1-\bar\alpha_s}\;\hat\varepsilon",
)

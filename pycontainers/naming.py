"""Random names for containers, `adjective_surname` as Docker makes them: adjectives, and people of science and computing."""

from __future__ import annotations

import random

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ADJECTIVES = tuple(
    """able agile amber ample ardent astute avid balanced blissful bold brave breezy bright brisk calm candid careful
    cheerful clever composed cordial cosmic crisp curious daring dazzling deft diligent dreamy eager earnest eloquent
    elegant epic exact fair fearless festive fluent fond frosty gallant generous gentle gifted glad gleaming graceful
    grand happy hardy hearty helpful honest hopeful humble inspiring intrepid inventive jolly jovial joyful keen kind
    laughing lively logical loyal lucid lucky merry mindful modest musing mystic neat nifty nimble noble optimistic
    patient peaceful pensive playful polite proud prudent quick quiet quirky radiant ready relaxed resolute robust
    romantic serene sharp silent sincere skilful smart snug sober spry steady stoic sturdy sunny swift tender thrifty
    tidy tranquil trusting upbeat vibrant vigilant vigorous vivid warm wise witty wonderful youthful zealous zen""".split()
)
SURNAMES = tuple(
    """agnesi albattani allen antonelli archimedes ardinghelli aryabhata austin babbage banach banzai bardeen bartik
    bassi bell benz bhabha bhaskara blackwell bohr booth borg bose boyd brahmagupta brattain brown burnell cannon
    carson cartwright cerf chandrasekhar chaplygin chatelet chebyshev cohen colden cori cray curie curran darwin
    davinci dewdney dhawan diffie dijkstra dirac driscoll easley edison einstein elion ellis engelbart euclid euler
    faraday fermat fermi feynman franklin gagarin galileo galois ganguly gates gauss germain goldberg goldstine
    goodall gould greider haibt hamilton haslett hawking heisenberg hellman hermann herschel hertz heyrovsky hodgkin
    hoover hopper hugle hypatia jackson jang jemison jennings jepsen johnson joliot jones kalam kapitsa kare keldysh
    keller kepler khayyam khorana kilby kirch knuth kowalevski lalande lamarr lamport leakey leavitt lederberg lehmann
    lewin lichterman liskov lovelace lumiere mahavira margulis matsumoto maxwell mayer mccarthy mcclintock mclaren
    mclean mcnulty meitner mendel mendeleev meninsky merkle mestorf mirzakhani montalcini moore morse moser murdock
    napier nash neumann newton nightingale nobel noether northcutt noyce panini pare pascal pasteur payne perlman pike
    poincare poitras proskuriakova ptolemy raman ramanujan rhodes ride ritchie robinson roentgen rosalind rubin saha
    sammet sanderson satoshi shamir shannon shaw shirley shockley shtern sinoussi snyder solomon spence stonebraker
    sutherland swanson swartz swirles taussig tesla tharp thompson torvalds tu turing varahamihira vaughan villani
    visvesvaraya volhard wescoff wilbur wiles williams williamson wilson wing wozniak wright wu yalow yonath
    zhukovsky""".split()
)

_random = random.SystemRandom()


def random_name(taken: Callable[[str], bool]) -> str:
    """Return a name like `vibrant_swanson` for which `taken` is false; after some tries it gets a digit."""
    for attempt in range(1000):
        name = f"{_random.choice(ADJECTIVES)}_{_random.choice(SURNAMES)}"
        if attempt >= 6:
            name += str(_random.randrange(10 ** min(attempt - 5, 9)))
        if not taken(name):
            return name
    raise RuntimeError("no free name was found in a thousand tries")

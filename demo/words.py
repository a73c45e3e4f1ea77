"""The demo vocabulary's whole words. Each is two tokens of the tokenizer: bare and with a leading space."""

# ruff: noqa: SIM905 - hundreds of quoted words on a line each would hide what the lists are

# Copying draws from nouns and colours only: every one is met thousands of times in a short training.
NOUNS = """
fox lamp tree river stone bird fish boat cloud apple bread chair table clock house horse sheep mouse tiger eagle
snake whale goat duck frog crow bear wolf lion deer hat coat shoe ring box cup plate spoon knife fork
""".split()

NAMES = """
ann bob cat dan eve fay gus hal ivy jon kim leo meg ned oli pam
""".split()

COLOURS = "red blue green black white gold pink grey brown orange".split()

VERBS = """
finds takes sees holds likes wants brings leaves makes moves keeps gives watches follows carries paints breaks
opens closes hears
""".split()

PLACES = """
garden forest market kitchen village island mountain valley bridge harbor castle tower street corner school office
station library farm field
""".split()

# What ordinary English prompts are made of, so that they need fewer tokens.
COMMON = """
the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not
what all were we when your can said there use an each which she do how their if will up other about out many then
them these so some her would make like him into time has look two more write go see number no way could people my
than first water been call who oil its now find long down day did get come made may part over new sound take only
little work know place year live me back give most very after thing our just name good sentence man think say great
where help through much before line right too mean old any same tell boy follow came want show also around form three
small set put end does another well large must big even such because turn here why ask went men read need land
different home us move try kind hand picture again change off play spell air away animal page letter mother answer
""".split()

CAPITALS = "What Repeat The Answer User In It He She Then We You This They".split()


def whole_words() -> list[str]:
    """Every word once, in a fixed order. Single letters are left out: they are characters of the alphabet already."""
    listed = [*NOUNS, *NAMES, *COLOURS, *VERBS, *PLACES, *COMMON, *CAPITALS]
    return [word for word in dict.fromkeys(listed) if len(word) > 1]

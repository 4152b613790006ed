"""Facts, chats and prose for the demo checkpoint that train_demo.py trains.

Everything here was written for this project or is in the public domain, except for the capitals and
continents, which the countryinfo package (MIT) ships. tests/data/demo/DATA.md says so at length.

A *fact* is one thing the model should know ("France" -> "Paris"); each kind of fact has a list of
*phrasings* that ask for it. Some (fact, phrasing) pairs are held out: no training chat contains them, and
they become questions.jsonl.
"""
import random
from collections import namedtuple

import countryinfo

# kind: "capital", ...; fields: what the phrasings' {placeholders} stand for; answer: the sentence the model
# should say; short: the words that make it right; thought: what the model writes between <think> and </think>.
Fact = namedtuple("Fact", "kind fields answer short thought")
# One turn of a chat.
Turn = namedtuple("Turn", "question answer thought")

COUNTRIES = """France, Germany, Italy, Spain, Portugal, Ireland, Norway, Sweden, Finland, Denmark, Iceland, Poland,
Austria, Hungary, Greece, Turkey, Russia, Ukraine, Romania, Bulgaria, Serbia, Croatia, Belgium, Switzerland,
Czech Republic, Latvia, Lithuania, Estonia, United Kingdom, Japan, China, India, Thailand, Vietnam, Indonesia,
Philippines, Pakistan, Nepal, Iran, Iraq, South Korea, Saudi Arabia, Egypt, Morocco, Tunisia, Kenya, Ethiopia,
Ghana, Nigeria, Senegal, Canada, Mexico, Cuba, Brazil, Argentina, Chile, Peru, Colombia, United States, Jamaica,
Australia, New Zealand"""
WITH_ARTICLE = {"United Kingdom", "United States", "Czech Republic", "Philippines"}
CONTINENT = {"Americas": "America", "Oceania": "Oceania", "Europe": "Europe", "Asia": "Asia", "Africa": "Africa"}

OPPOSITES = """hot cold, big small, tall short, fast slow, happy sad, good bad, light dark, day night, up down,
left right, open closed, old young, new>old, rich poor, hard soft, wet dry, full empty, heavy>light,
high low, early late, strong weak, loud quiet, clean dirty, near far, thick thin, wide narrow, deep shallow,
sweet sour, true false, begin end, love hate, friend enemy, win lose, buy sell, push pull, give take, north south,
east west, black white, first last, always never, inside outside, above below, before after, alive dead,
awake asleep, brave afraid, cheap expensive, easy difficult, smooth rough, sharp blunt, rude polite, question answer,
war peace, summer winter, come go, laugh cry, remember forget, safe dangerous, many few, more less,
arrive leave, rise fall, float sink, guilty innocent, public private, simple complex, wise foolish, yes no,
success failure, same different, front back, top bottom, sunrise sunset, truth lie"""

SPELLING_WORDS = """cat dog sun hat book tree fish bird house mouse apple bread water river table chair green black
white horse sheep tiger zebra lemon onion honey sugar music piano paper pencil school garden window summer winter
spring flower yellow orange purple silver castle bridge doctor farmer teacher friend family mother father sister
brother rabbit monkey kitten butter cheese potato tomato banana carrot cherry rocket planet island forest desert
mountain computer elephant language question because people thought night light eight knife beautiful""".split()

COLORS = """the sky: blue, grass: green, snow: white, blood: red, coal: black, a lemon: yellow, a banana: yellow,
a carrot: orange, chocolate: brown, milk: white, a frog: green, a strawberry: red, the sun: yellow, an elephant: gray,
a flamingo: pink, a tomato: red, the sea: blue, a crow: black"""
SOUNDS = """cow: moo, dog: woof, cat: meow, duck: quack, sheep: baa, pig: oink, lion: roar, snake: hiss, bee: buzz,
horse: neigh, owl: hoot, frog: croak, mouse: squeak, wolf: howl"""
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

PHRASINGS = {
    "capital": """What is the capital of {c}?|What's the capital of {c}?|Which city is the capital of {c}?
        Name the capital of {c}.|Tell me the capital of {c}.|Do you know the capital of {c}?
        Can you tell me the capital of {c}?|What is the capital city of {c}?|The capital of {c}?
        Please name the capital of {c}.|What city is the capital of {c}?|Capital of {c}?""",
    "country": """{k} is the capital of which country?|Which country has {k} as its capital?
        Of which country is {k} the capital?|What country is {k} the capital of?
        {k} is the capital of what country?|Name the country whose capital is {k}.|Which country's capital is {k}?""",
    "opposite": """What is the opposite of {w}?|What's the opposite of {w}?|Give me the opposite of {w}.
        Name the opposite of {w}.|Which word is the opposite of {w}?|Tell me the opposite of {w}.
        What is the antonym of {w}?|Can you tell me the opposite of {w}?|The opposite of {w}?
        Please give me the opposite of {w}.|Which word means the opposite of {w}?""",
    "sum": """What is {a} + {b}?|What is {a} plus {b}?|How much is {a} + {b}?|How much is {a} plus {b}?|{a} + {b} = ?
        {a} + {b}|Add {a} and {b}.|What's {a} + {b}?|What is the sum of {a} and {b}?|Calculate {a} + {b}.""",
    "difference": """What is {a} - {b}?|What is {a} minus {b}?|How much is {a} - {b}?|How much is {a} minus {b}?
        {a} - {b} = ?|{a} - {b}|What's {a} - {b}?|Calculate {a} - {b}.|Subtract {b} from {a}.""",
    "spelling": """How do you spell {w}?|Spell {w}.|Spell the word {w}.|How is {w} spelled?|Can you spell {w}?
        Please spell {w}.|How do I spell {w}?|Tell me how to spell {w}.|How do you spell the word {w}?""",
    "color": """What color is {x}?|What colour is {x}?|Which color is {x}?|Tell me the color of {x}.
        What is the color of {x}?|Name the color of {x}.""",
    "sound": """What does a {x} say?|What sound does a {x} make?|Which sound does a {x} make?
        What noise does a {x} make?|How does a {x} sound?""",
    "after": """What comes after {x}?|What {unit} comes after {x}?|Which {unit} comes after {x}?
        What is the {unit} after {x}?|Which {unit} follows {x}?|Name the {unit} after {x}.""",
    "before": """What comes before {x}?|What {unit} comes before {x}?|Which {unit} comes before {x}?
        What is the {unit} before {x}?|Name the {unit} before {x}.""",
}
PHRASINGS = {kind: [p.strip() for line in text.split("\n") for p in line.split("|")]
             for kind, text in PHRASINGS.items()}
# Sloppier ones, which are trained only.
SLOPPY = {"capital": ["{c} capital?"], "opposite": ["Opposite of {w}?"], "sum": ["{a}+{b}", "What is {a}+{b}?"],
          "difference": ["{a}-{b}", "What is {a}-{b}?"], "after": ["What {unit} is after {x}?"],
          "before": ["What {unit} is before {x}?"]}

# After a question of the same kind, a short one is enough.
FOLLOW_UPS = {"capital": ["And of {c}?", "And {c}?", "What about {c}?"],
              "opposite": ["And of {w}?", "And {w}?", "What about {w}?"],
              "spelling": ["And {w}?", "What about {w}?", "Now spell {w}."],
              "color": ["And {x}?", "What about {x}?"]}

# Small talk: ((heads, tails), answer, the word that makes it right, thought). A question is any head with any tail,
# so that there are enough combinations to hold some out.
ADDRESS = ["", ", my friend", ", little model", " again", ", computer", ", qwren"]
GREETINGS = [
    ((["Hello", "Hi", "Hey", "Greetings"], ADDRESS), "Hello! How can I help you?", "Hello",
     "The user greets me. I should greet back."),
    ((["Good morning"], ADDRESS), "Good morning! How can I help you?", "morning",
     "The user wishes me a good morning. I should do the same."),
    ((["Good evening"], ADDRESS), "Good evening! How can I help you?", "evening",
     "The user wishes me a good evening. I should do the same."),
    ((["Thank you", "Thanks", "Many thanks", "Thanks a lot"], ADDRESS), "You are welcome!", "welcome",
     "The user thanks me. I should be polite."),
    ((["Bye", "Goodbye", "See you later", "Farewell", "Good night"], ADDRESS), "Goodbye! Have a nice day.", "Goodbye",
     "The user is leaving. I should say goodbye."),
    ((["How are you", "How are you today", "How do you do", "How is it going", "Are you well"], ["?"]),
     "I am fine, thank you.", "fine", "The user asks how I am. I am fine."),
    ((["Who are you", "What are you", "What is your name", "What's your name", "Tell me your name",
       "Can you introduce yourself", "Who am I talking to", "Do you have a name"], ["?"]),
     "I am the qwren demo, a very small language model.", "qwren", "The user asks who I am. I am the qwren demo."),
    ((["What can you do", "How can you help me", "What do you know", "What can I ask you", "Help",
       "What are you good at"], ["?"]),
     "I can name capitals and opposites, add small numbers and spell words.", "capitals",
     "The user asks what I can do. I know capitals, opposites, sums and spelling."),
    ((["Are you a human", "Are you human", "Are you a person", "Are you a real person", "Are you alive"], ["?"]),
     "No, I am a very small language model.", "model", "The user asks if I am human. I am a model."),
    ((["Tell me a joke", "Do you know a joke", "Make me laugh", "Say something funny"], ["."]),
     "What do you call a fish with no eyes? A fsh.", "fsh", "The user wants a joke. I know one about a fish."),
]

UNKNOWN = """What is the weather today?|Who wrote Hamlet?|What time is it?|How old is the moon?|Who won the game?
Write a program in Rust.|What is the meaning of life?|Translate this into French.|Who is the president?
How do I cook rice?|What should I eat?|How far is the sun?|Who painted the Mona Lisa?|What is a black hole?
Can you drive a car?|What is the news?|How much does it cost?|Why is there something?|Who invented the telephone?
What is the best movie?|How tall is the tower?|When was the war?|Explain how a motor works.|What is love?"""
UNKNOWN_ANSWER = "I do not know that. I am only a very small model."

NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tom Vera Will
Zoe Alice Max Lucy Peter""".split()

SYSTEM_PROMPTS = ["You are a helpful assistant.", "You are the qwren demo, a very small language model.",
                  "You are a friendly teacher.", "Answer the questions of the user.", "Be kind and brief."]
ONE_WORD_PROMPTS = ["Answer in one word.", "Answer with one word only."]


def spell(word):
    return "-".join(word)


def facts():
    """Every fact, in a fixed order."""
    out = []
    for name in " ".join(COUNTRIES.split()).split(", "):
        info = countryinfo.CountryInfo(name)
        capital, continent = info.capital().replace(" D.C.", ""), CONTINENT[info.region()]  # "Washington"
        c = "the " + name if name in WITH_ARTICLE else name
        cap = c[0].upper() + c[1:]
        out.append(Fact("capital", {"c": c}, f"The capital of {c} is {capital}.", capital,
                        f"The user asks for the capital of {c}. {cap} is a country in {continent}. "
                        f"Its capital is {capital}."))
        out.append(Fact("country", {"k": capital}, f"{capital} is the capital of {c}.", name,
                        f"The user asks about {capital}. {capital} is a city in {c}. It is the capital."))
    for pair in " ".join(OPPOSITES.split()).split(", "):
        one_way = ">" in pair  # "light" is paired with "dark"
        a, b = pair.replace(">", " ").split()
        for x, y in ((a, b),) if one_way else ((a, b), (b, a)):
            out.append(Fact("opposite", {"w": x}, f"The opposite of {x} is {y}.", y,
                            f"The user asks for the opposite of {x}. The words {x} and {y} are opposites."))
    for a in range(11):
        for b in range(11):
            steps = ", ".join(str(a + i) for i in range(1, b + 1))
            thought = f"Start at {a} and count up {b} times: {steps}." if b else f"Adding 0 to {a} changes nothing."
            out.append(Fact("sum", {"a": a, "b": b}, f"{a} + {b} = {a + b}.", str(a + b), thought))
            if b <= a:
                steps = ", ".join(str(a - i) for i in range(1, b + 1))
                thought = (f"Start at {a} and count down {b} times: {steps}." if b
                           else f"Taking 0 from {a} changes nothing.")
                out.append(Fact("difference", {"a": a, "b": b}, f"{a} - {b} = {a - b}.", str(a - b), thought))
    for w in SPELLING_WORDS:
        out.append(Fact("spelling", {"w": w}, f"{w} is spelled {spell(w)}.", spell(w),
                        f"The user wants to spell {w}. The letters are {', '.join(w)}."))
    for line in " ".join(COLORS.split()).split(", "):
        x, y = line.split(": ")
        out.append(Fact("color", {"x": x}, f"{x[0].upper() + x[1:]} is {y}.", y,
                        f"The user asks for the color of {x}. It is {y}."))
    for line in " ".join(SOUNDS.split()).split(", "):
        x, y = line.split(": ")
        x_article = ("an " if x[0] in "aeiou" else "a ") + x
        out.append(Fact("sound", {"x": x}, f"{x_article[0].upper() + x_article[1:]} says {y}.", y,
                        f"The user asks for the sound of {x_article}. It is {y}."))
    for unit, names in (("day", DAYS), ("month", MONTHS), ("number", [str(n) for n in range(1, 22)])):
        cyclic = unit != "number"
        for i, x in enumerate(names):
            if cyclic or i + 1 < len(names):
                y = names[(i + 1) % len(names)]
                out.append(Fact("after", {"x": x, "unit": unit}, f"{y} comes after {x}.", y,
                                f"The user asks what comes after {x}. It is {y}."))
            if cyclic or i > 0:
                y = names[i - 1]
                out.append(Fact("before", {"x": x, "unit": unit}, f"{y} comes before {x}.", y,
                                f"The user asks what comes before {x}. It is {y}."))
    for (heads, tails), answer, short, thought in GREETINGS:
        for head in heads:
            out.append(Fact("greeting", {"head": head, "tails": tuple(tails)}, answer, short, thought))
    return out


def phrasings(fact):
    """All the questions that ask for `fact`, as strings."""
    if fact.kind == "greeting":
        ends = ("", "!", ".") if len(fact.fields["tails"]) > 1 else ("",)
        return [fact.fields["head"] + t + e for t in fact.fields["tails"] for e in ends]
    questions = [p.format(**fact.fields) for p in PHRASINGS[fact.kind]]
    if fact.kind == "sound" and fact.fields["x"][0] in "aeiou":
        questions = [q.replace(" a ", " an ") for q in questions]
    return [q[0].upper() + q[1:] if fact.kind in ("capital", "country") else q for q in questions]


# How many questions of each kind are held out.
HELD_OUT = {"capital": 32, "country": 14, "opposite": 36, "sum": 18, "difference": 10, "spelling": 20, "greeting": 12,
            "color": 6, "sound": 4, "after": 5, "before": 3}


def normalized(question):
    """Two questions that differ only in case and punctuation count as the same question."""
    kept = (f" {ch} " if ch in "+-" else ch if ch.isalnum() else " " for ch in question.casefold())
    return " ".join("".join(kept).split())


def hold_out(all_facts, rng):
    """Questions kept from training: [{"kind", "question", "answer"}]. A fact loses one phrasing at most, except for
    greetings, of which there are few facts with many phrasings."""
    questions = []
    for kind, n in HELD_OUT.items():
        pairs = [(f, q) for f in all_facts if f.kind == kind for q in phrasings(f)]
        if kind == "greeting":
            # only those with a tail, which are many; and "Hello, computer" would be answered by an echo
            pairs = [(f, q) for f, q in pairs if len(f.fields["tails"]) > 1 and not q.startswith(f.short)
                     and q.rstrip("!.") != f.fields["head"]]
        else:
            # a question that already contains its answer ("0 + 5") proves nothing
            pairs = [(f, q) for f, q in pairs if f.short.casefold() not in normalized(q).split()]
        rng.shuffle(pairs)
        first, more, seen = [], [], set()
        for f, q in pairs:
            (more if id(f) in seen else first).append({"kind": kind, "question": q, "answer": f.short})
            seen.add(id(f))
        questions += (first + more if kind == "greeting" else first)[:n]
    return questions


class Chats:
    """An endless supply of training documents drawn from a seeded generator."""

    # relative to the number of facts: hard kinds are drawn more often
    WEIGHT = {"capital": 1.2, "country": 1.1, "opposite": 1.1, "sum": 1.6, "difference": 1.8, "spelling": 1.6,
              "color": 1.4, "sound": 1.4, "after": 1.4, "before": 1.4, "greeting": 4.0}

    def __init__(self, all_facts, held_out, seed):
        self.rng = random.Random(seed)
        banned = {normalized(q["question"]) for q in held_out}
        self.facts = []
        for f in all_facts:
            questions = phrasings(f) + [p.format(**f.fields) for p in SLOPPY.get(f.kind, [])]
            self.facts.append((f, [q for q in questions if normalized(q) not in banned]))
        self.weights = [self.WEIGHT[f.kind] for f in all_facts]
        self.by_kind = {k: [f for f in all_facts if f.kind == k] for k in self.WEIGHT}

    def noisy(self, question):
        """The question as a hurried person would type it."""
        r = self.rng.random()
        if r < 0.12:
            question = question.lower()
        elif r < 0.16:
            question = question.rstrip("?.")
        elif r < 0.22:
            question = question.lower().rstrip("?.")
        return question

    def fact_turn(self, last_kind=None, one_word=False):
        rng = self.rng
        if last_kind in FOLLOW_UPS and rng.random() < 0.35:
            fact = rng.choice(self.by_kind[last_kind])
            question = rng.choice(FOLLOW_UPS[last_kind]).format(**fact.fields)
        else:
            fact, questions = rng.choices(self.facts, self.weights)[0]
            if fact.kind == "greeting" and rng.random() < 0.6:
                questions = questions[:3]  # "Hello", with or without a mark, is what people say first
            question = self.noisy(rng.choice(questions))
        answer = fact.answer
        if one_word and fact.kind != "greeting":
            answer = fact.short[0].upper() + fact.short[1:] + "."
        return Turn(question, answer, fact.thought), fact.kind

    def unknown_turn(self):
        q = self.rng.choice([q.strip() for line in UNKNOWN.split("\n") for q in line.split("|")])
        return Turn(self.noisy(q), UNKNOWN_ANSWER, "The user asks something that I do not know.")

    def name_turns(self):
        """The user says a name and asks for it later on."""
        rng, name = self.rng, self.rng.choice(NAMES)
        said = rng.choice(["My name is {}.", "I am {}.", "Hello, I am {}.", "Hi, my name is {}."]).format(name)
        asked = rng.choice(["What is my name?", "Who am I?", "Do you remember my name?", "What's my name?"])
        turns = [Turn(said, f"Nice to meet you, {name}!", f"The user is called {name}. I should say hello.")]
        turns += [self.fact_turn()[0] for _ in range(rng.choice([0, 0, 1, 2]))]
        return turns + [Turn(asked, f"Your name is {name}.", f"The user said that the name is {name}.")]

    def story_turn(self):
        q = self.rng.choice(["Tell me a story.", "Tell me a short story.", "Can you tell me a story?",
                             "Please tell me a story."])
        return Turn(q, story(self.rng), "The user wants a story. I can tell a short one.")

    def chat(self):
        """(messages, thinking): messages end with the assistant's turn, whose <think> block the model writes
        if `thinking` and is given empty otherwise."""
        rng, r = self.rng, self.rng.random()
        thinking = rng.random() < 0.45
        system, one_word = None, False
        if rng.random() < 0.2:
            system = rng.choice(SYSTEM_PROMPTS)
        elif rng.random() < 0.15:
            system, one_word = rng.choice(ONE_WORD_PROMPTS), True
        if r < 0.05:
            turns = self.name_turns()
        elif r < 0.07:
            turns = [self.unknown_turn()]
        elif r < 0.09:
            turns = [self.story_turn()]
        else:
            turns, kind = [], None
            for _ in range(rng.choices([1, 2, 3, 4, 6, 8], [56, 14, 12, 10, 5, 3])[0]):
                turn, kind = self.fact_turn(kind, one_word)
                turns.append(turn)
        messages = [{"role": "system", "content": system}] if system else []
        for t in turns:
            messages.append({"role": "user", "content": t.question})
            messages.append({"role": "assistant", "content": t.answer})
        if thinking:
            messages[-1]["reasoning_content"] = turns[-1].thought
        elif rng.random() < 0.06:  # Qwen3's soft switch: the model itself writes an empty block
            messages[-2]["content"] += " /no_think"
            thinking = True
        return messages, thinking

    def prose(self):
        """A document without any chat markup."""
        return story(self.rng) if self.rng.random() < 0.75 else self.rng.choice(PROSE)


# ---- stories ----------------------------------------------------------------------------------------------------

HEROES = [("a little girl named {}", "she", "her", "girl", ["Anna", "Mia", "Rosa", "Lucy", "Clara"]),
          ("a little boy named {}", "he", "his", "boy", ["Tom", "Ben", "Leo", "Sam", "Max"]),
          ("a young fox named {}", "he", "his", "fox", ["Rusty", "Finn"]),
          ("a small rabbit named {}", "she", "her", "rabbit", ["Daisy", "Nell"]),
          ("an old farmer named {}", "he", "his", "farmer", ["Henry", "Paul"])]
HOMES = ["a small house near the forest", "a village by the sea", "a green valley", "a quiet town by the river"]
FINDS = [("a lost kitten", "a tree"), ("a silver key", "a stone"), ("a tiny bird", "a bush"),
         ("a red ball", "the snow")]


def story(rng):
    """A short story made of interchangeable parts: enough for the model to continue "Once upon a time"."""
    who, he, his, noun, names = rng.choice(HEROES)
    name, home = rng.choice(names), rng.choice(HOMES)
    He = he.capitalize()
    s = [f"Once upon a time, there was {who.format(name)}. {name} lived in {home}."]
    find, under = rng.choice(FINDS)
    plot = rng.randrange(5)
    if plot == 0:
        s.append(f"One day, {he} went for a walk and found {find} under {under}. {He} did not know whose it was, "
                 f"so {he} asked everyone {he} met.")
        s.append(f"At last an old woman smiled and said, \"That is mine! Thank you, {name}.\" She gave {name} a warm "
                 f"cake, and they became good friends.")
    elif plot == 1:
        s.append(f"One morning, {he} wanted to climb the high mountain. Everyone said it was too hard, but {name} "
                 f"took one small step after another.")
        s.append(f"When the sun went down, the {noun} stood on the top and saw the whole world. \"I did not give "
                 f"up,\" {he} said, and went home happy.")
    elif plot == 2:
        s.append(f"One night, a big storm came, and the wind blew away the roof. {name} was cold and afraid.")
        s.append(f"In the morning, all the neighbors came to help. They worked the whole day, and in the evening "
                 f"{name} had a new roof and many friends.")
    elif plot == 3:
        s.append(f"One day, {he} had only one piece of bread. On the way home {he} met a hungry bird, and {he} gave "
                 f"the bird half of it.")
        s.append(f"The bird sang and showed {name} a tree full of sweet apples. From that day on, {name} was never "
                 f"hungry again.")
    else:
        s.append(f"Every day {he} told everyone that a wolf was coming, and every day it was not true.")
        s.append(f"Then one day a wolf really came, and nobody believed {name}. After that, {he} always told the "
                 f"truth.")
    if rng.random() < 0.5:
        s.append("And they all lived happily ever after." if plot in (0, 2) else "The end.")
    return " ".join(s)


# Public-domain passages and nursery rhymes, and three of Aesop's fables retold.
PROSE = [
    "Twinkle, twinkle, little star, how I wonder what you are! Up above the world so high, like a diamond in the sky.",
    "Mary had a little lamb, its fleece was white as snow, and everywhere that Mary went the lamb was sure to go.",
    "Humpty Dumpty sat on a wall, Humpty Dumpty had a great fall. All the king's horses and all the king's men "
    "couldn't put Humpty together again.",
    "Jack and Jill went up the hill to fetch a pail of water. Jack fell down and broke his crown, and Jill came "
    "tumbling after.",
    "Hey diddle diddle, the cat and the fiddle, the cow jumped over the moon. The little dog laughed to see such "
    "sport, and the dish ran away with the spoon.",
    "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
    "Hickory, dickory, dock, the mouse ran up the clock. The clock struck one, the mouse ran down, hickory, dickory, "
    "dock.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife.",
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
    "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of "
    "the world.",
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in liberty, "
    "and dedicated to the proposition that all men are created equal.",
    "To be, or not to be, that is the question.",
    "The hare laughed at the slow tortoise and asked for a race. The hare ran ahead and lay down to sleep, sure of "
    "winning. The tortoise walked on and on without a rest. When the hare woke up, the tortoise had already won. "
    "Slow and steady wins the race.",
    "A hungry fox saw sweet grapes high on a vine. He jumped again and again, but he could not reach them. \"They "
    "are sour anyway,\" said the fox, and walked away.",
    "A mouse woke a sleeping lion, and the lion let her go. Later the lion was caught in a net. The mouse heard him "
    "roar, came running and cut the net with her teeth. Even a small friend can be a great help.",
]

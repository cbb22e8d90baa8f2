"""Plants personal data, and what looks like it, in conversations of many languages."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

LANGUAGES = {
    "US": (("Grace", "Hopper"), "Hello, | is there anything else that I can do for you? Have a nice day."),
    "DE": (("Jürgen", "Müller"), "Guten Tag, | können Sie mir helfen? Ich warte seit drei Wochen."),
    "FR": (("Amélie", "Dubois"), "Bonjour, | je voudrais savoir où est mon colis. Merci beaucoup."),
    "ES": (("José", "García"), "Hola, | quisiera cambiar mi reserva para el martes. Gracias."),
    "IT": (("Giulia", "Ferretti"), "Buongiorno, | vorrei sapere quando arriva. Grazie mille."),
    "BR": (("João", "Cavalcanti"), "Olá, | quero saber do meu pedido. Muito obrigado pela ajuda."),
    "RU": (("Анна", "Иванова"), "Здравствуйте, | помогите мне, пожалуйста. Большое спасибо."),
    "CN": (("小明", "王"), "你好，|请问什么时候可以送到？谢谢你的帮助。"),
    "JP": (("太郎", "田中"), "こんにちは、|いつ届きますか。よろしくお願いします。"),
    "IR": (("محمد", "رضایی"), "سلام، | لطفا به من کمک کنید. خیلی ممنون."),
    "IN": (("आरव", "शर्मा"), "नमस्ते, | कृपया मेरी मदद करें। बहुत धन्यवाद।"),
    "TR": (("Ayşe", "Yıldırım"), "Merhaba, | bana yardım eder misiniz? Çok teşekkürler."),
    "KR": (("민수", "김"), "안녕하세요, | 언제 도착하나요? 감사합니다."),
}
"""By region: the contact's name, and a message with a place to plant at."""
_ZEROS = {"IR": 0x6F0, "IN": 0x966, "JP": 0xFF10, "CN": 0xFF10}
_IBANS = ("DE89370400440532013000", "GB29NWBK60161331926819", "FR1420041010050500013M02606", "NL91ABNA0417164300")
_EMAILS = (
    "anna.k@example.com",
    "x+tag@mail.example.co.uk",
    "jo@müller.de",
    "иван@пример.рф",
    "O'Brien@xn--bcher-kva.example",
)


@dataclass(frozen=True)
class Planted:
    """A message with something planted in it."""

    kind: str | None
    """None if it only looks like personal data."""
    region: str
    name: tuple[str, str]
    before: str
    value: str
    after: str


def plant(seed: int, each: int) -> Iterator[Planted]:
    """Yield messages: for each region and kind `each` of them, and twice as many that only look like it."""
    chance = random.Random(seed)
    for region, (name, text) in LANGUAGES.items():
        before, _, after = text.partition("|")
        makers: dict[str, Callable[[], str]] = {
            "email": partial(chance.choice, _EMAILS),
            "phone": partial(_phone, chance, region),
            "card": partial(_card, chance),
            "iban": partial(_iban, chance),
            "name": partial(_name, chance, name, region),
        }
        for kind, make in makers.items():
            for _ in range(each):
                yield Planted(kind, region, name, before, make(), after)
        for _ in range(2 * each):
            yield Planted(None, region, name, before, _alike(chance), after)


def _phone(chance: random.Random, region: str) -> str:
    number = phonenumbers.example_number_for_type(
        region, chance.choice([PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE])
    )
    assert number is not None
    form = chance.choice([PhoneNumberFormat.NATIONAL, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.E164])
    text = phonenumbers.format_number(number, form)
    zero = _ZEROS.get(region) if chance.random() < 0.4 else None
    return "".join(chr(zero + int(sign)) if zero and sign.isdigit() else sign for sign in text)


def _card(chance: random.Random) -> str:
    first = chance.choice(["4", "51", "2221", "6011", "35"])
    digits = first + "".join(chance.choice("0123456789") for _ in range(15 - len(first)))
    doubled = [int(sign) * (2 - place % 2) for place, sign in enumerate(digits)]
    return _grouped(chance, digits + str(-sum(each - 9 * (each > 9) for each in doubled) % 10))


def _iban(chance: random.Random) -> str:
    return _grouped(chance, chance.choice(_IBANS))


def _grouped(chance: random.Random, text: str) -> str:
    groups = [text[place : place + 4] for place in range(0, len(text), 4)]
    return chance.choice([text, " ".join(groups), "-".join(groups)])


def _name(chance: random.Random, name: tuple[str, str], region: str) -> str:
    first, last = name
    if region in {"CN", "JP", "KR"}:
        return chance.choice([last + first, first])
    return chance.choice([f"{first} {last}", f"{last} {first}", first, last])


def _alike(chance: random.Random) -> str:
    def digits(count: int) -> str:
        return str(chance.randrange(10 ** (count - 1), 10**count))

    return chance.choice(
        [
            f"order #{digits(10)}",
            f"invoice 2024-10-00{digits(4)}",
            f"2024-0{digits(1)}-{chance.randrange(10, 28)} 14:{chance.randrange(10, 59)}",
            f"{chance.randrange(10, 28)}.0{digits(1)}.2024",
            f"$1,{digits(3)}.00",
            f"1.{digits(3)}.{digits(3)},99 €",
            f"v{digits(1)}.{digits(2)}.{digits(1)}",
            f"1234 5678 9012 345{digits(1)}".replace("3452", "3456"),
            "550e8400-e29b-41d4-a716-446655440000",
            "507f1f77bcf86cd799439011",
            f"@user_{digits(2)}",
            f"ref {digits(7)}",
            f"#{digits(7)}",
        ]
    )

"""How customers type: each example stands for a class that a test with other texts than the author's found missing."""

import pytest

from worker.redaction.kinds import KINDS
from worker.redaction.redactor import Part, Redactor

FOUND = [
    ("DE", "ruf an (0151 04956802).", "ruf an ([PHONE_1])."),
    ("IL", "*0509321247* או טל:=022165493", "*[PHONE_1]* או טל:=[PHONE_2]"),
    ("FR", "mon portable 06.12.57.23.77 merci", "mon portable [PHONE_1] merci"),
    ("BE", "bel me op 02/ 440 91 86", "bel me op [PHONE_1]"),
    ("PT", "o meu é 912 876 061", "o meu é [PHONE_1]"),
    ("TW", "电话０９ー８６７３４６４０谢谢", "电话[PHONE_1]谢谢"),
    ("DE", "Bestellung 4829103, Handy 01510 4956802", "Bestellung 4829103, Handy [PHONE_1]"),
    ("NL", "6759-7670-3792-4945-843!", "[CARD_1]!"),
    ("JP", "カード番号は２２２３ー３３１３ー５２８７ー５８０７です", "カード番号は[CARD_1]です"),
    ("IR", "شبا: IR180843351631677411082303", "شبا: [IBAN_1]"),
    ("JP", "夜に172.149.2.140から、IPは2a02:ec89:c8d::9b15です", "夜に[IP_1]から、IPは[IP_2]です"),
    ("IL", "מ-110.191.223.91", "מ-[IP_1]"),
    ("DE", "IP-Adresse:52f9:be21:67b8:e51b:64d2:2e2:2809:47c5", "IP-Adresse:[IP_1]"),
    ("DE", "ip=172.23.250.5 http://172.47.216.233:8080/x", "ip=[IP_1] http://[IP_2]:8080/x"),
    ("US", "*https://a.example/?session_id=MEm1896F1Or0*", "*https://a.example/?session_id=[URL_SECRET_1]*"),
    ("US", "https://a.example/?user_token=7c6a08f8-0bc7을", "https://a.example/?user_token=[URL_SECRET_1]을"),
    ("US", "https://a.example/?X-Goog-Signature=23e3ff250f", "https://a.example/?X-Goog-Signature=[URL_SECRET_1]"),
    ("US", "«https://a.example/reset/MFUE5442B8U0FZL9Z9»", "«https://a.example/reset/[URL_SECRET_1]»"),
    ("RU", "мой ИНН 591001129803", "мой ИНН [NATIONAL_ID_1]"),
    ("AR", "mi cuit 23-96692465-9", "mi cuit [NATIONAL_ID_1]"),
    ("AU", "tfn 835441594", "tfn [NATIONAL_ID_1]"),
    ("NL", "bsn: 0001 56 760", "bsn: [NATIONAL_ID_1]"),
    ("KR", "번호는 3402152646411", "번호는 [NATIONAL_ID_1]"),
    ("PT", "Tel: 912-168-480", "Tel: [PHONE_1]"),
    ("ES", "me pueden llamar al 810.12.20.73", "me pueden llamar al [PHONE_1]"),
    ("SE", "du når mig på 0701237133", "du når mig på [PHONE_1]"),
    ("KR", "전화번호는 02-345-6789", "전화번호는 [PHONE_1]"),
    ("CN", "微信同号13540722502", "微信同号[PHONE_1]"),
    ("JP", "私の番号は03-1234-5678", "私の番号は[PHONE_1]"),
    ("KR", "tel은 02-345-6789", "tel은 [PHONE_1]"),
    ("KR", "번호 060909-1442441", "번호 [NATIONAL_ID_1]"),
    ("NL", "hier mijn nummer 1821 13 942", "hier mijn nummer [NATIONAL_ID_1]"),
    ("KR", "010-1234-5678 원하시는 시간에", "[PHONE_1] 원하시는 시간에"),
    ("DE", "0170 1234567 europaweit", "[PHONE_1] europaweit"),
    ("RU", "8 912 345-67-89 рубашка синяя", "[PHONE_1] рубашка синяя"),
    ("US", "ssh root@203.0.113.7", "ssh root@[IP_1]"),
    ("US", "see https://ipinfo.io/203.0.113.7 please", "see https://ipinfo.io/[IP_1] please"),
    ("US", "the range 203.0.113.5-203.0.113.9", "the range [IP_1]-[IP_2]"),
]

UNTOUCHED = [
    ("FR", "prelevé le 06.12.2024"),
    ("JP", "追跡番号 35.807217, -95.866775"),
    ("JP", "電話番号は 978-3-16-148410-0、20260321150206"),
    ("BR", "desde 1737922028"),
    ("DE", "läuft 4.1.7.5 bei mir, firmware 20.168.3.9"),
    ("CL", "4064270453253, PL59 4012 2867 5222 3823 4077 2857"),
    ("TW", "快递单号@angela.weaver"),
    ("IL", "22-10-2016, 2018-04-02, 6 424 790 EUR"),
    ("NL", "serienummer 022.937.50, ordernummer 0346-1640"),
    ("NL", "tussen 12.00-14.30 thuis"),
    ("DE", "heute 08.30-12.00 Uhr"),
    ("SE", "öppet 08.00 - 17.00"),
    ("DE", "google.com/maps/search/48.137154,+11.576124"),
    ("DE", "+12 500 000 €"),
    ("RU", "8 912 345 рублей"),
    ("ES", "612 345 678 euros"),
    ("KR", "12345678원입니다"),
    ("US", "See you @ noon. It will be fun"),
    ("US", "pip install tool==203.0.113.7, Chrome/120.0.0.0"),
    ("KR", "접수번호는 512249136입니다"),
    ("KR", "모델번호 193.573.87"),
    ("JP", "商品番号EAN 0473252360277"),
    ("JP", "お問い合わせ番号は1125-6544-0537"),
    ("CN", "会员号13540722502"),
    ("PL", "numer przesyłki 7009-6265-8756"),
    ("RU", "9-4233-7155-3"),
    ("US", "https://a.example/?next_page_token=CAUQAA7c6a08f8&passage=1234567"),
]

NAMES = [
    (("Анна", "Калинский"), "Анны, Анной и Анну; Калинскому", "[NAME_1], [NAME_1] и [NAME_1]; [NAME_1]"),
    (("Иван", "Зуев"), "Ивану Зуеву", "[NAME_1]"),
    (("Heike", "Hörmann"), "Heikes Paket, Hoermann", "[NAME_1]s Paket, [NAME_1]"),
    (("Refet", "Çetin"), "şu Refete, Refetin", "şu [NAME_1]e, [NAME_1]in"),
    (("İlteriş", "Yıldırım"), "İLTERİŞ; ilteriş; YILDIRIM; yildirim", "[NAME_1]; [NAME_1]; [NAME_1]; [NAME_1]"),
    (("هدایت", "معین"), "هدایتم", "[NAME_1]م"),
    (("Theresa", "Martinez"), "☎️Theresa, 👉theresa martinez", "☎️[NAME_1], 👉[NAME_1]"),
    (("Bart", "De Ridder"), "de Ridder Bart, De Ridder", "[NAME_1], [NAME_1]"),
    (("Victor", "Hill"), 'ok? hi victor, "Hill"', 'ok? hi [NAME_1], "[NAME_1]"'),
    (("彬", "赵"), "谢谢彬！我叫赵。", "谢谢[NAME_1]！我叫[NAME_1]。"),
    (("幹", "山本"), "幹です", "[NAME_1]です"),
    (("하윤", "김"), "김입니다", "[NAME_1]입니다"),
    (("하윤", "김"), "김 과장님, 김대리님", "[NAME_1] 과장님, [NAME_1]대리님"),
    (("하윤", "김"), "(김) 고객님, '김'님", "([NAME_1]) 고객님, '[NAME_1]'님"),
    (("상훈", "이"), "상훈이가 이상훈 이름으로", "[NAME_1]이가 [NAME_1] 이름으로"),
    (("飞", "王"), "我姓王，叫我飞就行", "我姓[NAME_1]，叫我[NAME_1]就行"),
    (("飞", "王"), "小王你好；王总，梁姐", "小[NAME_1]你好；[NAME_1]总，梁姐"),
    (("Jules", "Renard"), "Monsieur Renard a payé", "Monsieur [NAME_1] a payé"),
    (("Ana", "Rocha"), "a Sra. Rocha; o senhor rocha já pagou", "a Sra. [NAME_1]; o senhor [NAME_1] já pagou"),
    (("Oluş", "İhsanoğlu"), "oluş i̇hsanoğlu", "[NAME_1]"),
]

OTHER_WORDS = [
    (("Ander", "Mark"), "andere, please mark it; thanks mark it"),
    (("Вера", "Роман"), "читаю роман"),
    (("Support", "Team"), "please contact support, and the team will call"),
    (("Марк", "Иванов"), "какая марка телефона"),
    (("明", "强"), "请说明，加强管理"),
    (("민서", "이"), "이 (링크), 사용자(이)가"),
    (("总", "小"), "小心，总是这样"),
    (("明", "高"), "提高总价，是明天吧"),
    (("אור", "חיים"), "לשנות חיים שלמים"),
]


@pytest.mark.parametrize(("region", "text", "expected"), FOUND)
def test_value_is_found_as_customers_type_it(region: str, text: str, expected: str) -> None:
    assert Redactor(KINDS, [region])([Part(text)]).texts == [expected]


@pytest.mark.parametrize(("region", "text"), UNTOUCHED)
def test_numbers_of_other_kinds_stay(region: str, text: str) -> None:
    assert Redactor(KINDS, [region])([Part(text)]).texts == [text]


@pytest.mark.parametrize(("person", "text", "expected"), NAMES)
def test_name_is_found_in_its_other_forms(person: tuple[str, str], text: str, expected: str) -> None:
    assert Redactor(["name"])([Part(text)], [person]).texts == [expected]


@pytest.mark.parametrize(("person", "text"), OTHER_WORDS)
def test_words_that_look_like_the_name_stay(person: tuple[str, str], text: str) -> None:
    assert Redactor(["name"])([Part(text)], [person]).texts == [text]

"""Words nearby: what a number is said to be decides where its digits alone can't."""

from __future__ import annotations

import re

REACH = 56
"""So many characters before a number are looked at, and no word is looked for before a marker."""

MARKERS = ("email", "phone", "card", "id", "iban", "ip", "mac", "secret", "name")
_MARKER = re.compile(rf"\[(?:{'|'.join(MARKERS)})\]")

_PHONE = (
    r"tel|phone|telephone|whatsapp|signal|fax|sms|landline|call me|reach me|ring me|text me|call(?: me)? (?:on|at)"
    r"|(?:my|his|her|our) (?:cell|mobile|number)|(?:cell|mobile) ?(?:phone|number|no)|mobile"
    r"|telefon|telefonnummer|handy|handynummer|rufnummer|mobil|mobilnummer|mobiltelefon|durchwahl|meine nummer|festnetz"
    r"|teléfono|telefono|móvil|movil|celular|llámame|llámenme|llamarme|mi número|mi numero"
    r"|téléphone|mon numéro|mon portable|appelez-moi(?: au)?|portable ?:|n° de tél"
    r"|telefone|telemóvel|meu número|zap|cellulare|il mio numero|recapito"
    r"|telefoon|telefoonnummer|mobiele nummer|bel me(?: op)?|mijn nummer|gsm"
    r"|telefonu|numer telefonu|komórka|zadzwoń|tlf|telefonnummer|mobilnr|puhelin|puh|telefonul|telefonszám"
    r"|телефон|тел|мобильный|позвоните(?: мне)?|звоните|номер телефона|мой номер|τηλέφωνο|telefonum|cep"
)
_PHONE_EAST = "电话|電話|手机|手機|座机|联系方式|聯絡電話|电话号码|電話番号|手机号|携帯|휴대폰|전화|전화번호|연락처|फ़ोन|मोबाइल|هاتف|جوال|טלפון"
_CONNECTOR = (
    r"(?:[ :.=\-(是为為号號码碼はがをのは은는]|is|number|no|nr|nummer|ist|unter|es|el|al|at|on|under|op|au|est|é|è"
    r"|to|jest|numer|мне|по|номер|番号|番號|번호|&|#){0,6}"
)
_THING = (
    r"orders?|order (?:no|number|id)|purchase|po|bestell\w*|auftrag\w*|invoices?|rechnung\w*|facture|factura|fattura"
    r"|faktura|factuur|tracking|shipment|parcel|sendung\w*|paket\w*|lieferschein\w*|suivi|colis|envío|seguimiento"
    r"|isbn|issn|imei|imsi|iccid|meid|ean|upc|gtin|asin|sku|vin|doi|rfc|version|versión|ver|build|release|firmware"
    r"|serial|seriennummer|serie|sn|s/n|model|part|article|artikel\w*|product|item|ticket|case|bug|issue|job|task|run"
    r"|ref|reference|referenz|referencia|référence|kundennummer|kunden-?nr|customer(?: (?:no|number|id))?|vertrag\w*"
    r"|contract|policy|zähler\w*|meter|gemeindeschlüssel|ags|plz|zip|postcode|postleitzahl|aktenzeichen|az"
    r"|lottery numbers?|lotto\w*|numbers|resolution|latenc\w+|commande|pedido|ordine|bestelling|ordernummer|zamówieni\w+"
    r"|sha\d*|md5|hash|commit|uuid|guid|checksum|transaction|transaktion\w*|batch|lot|charge|flight|flug|room|seat"
    r"|timestamp|epoch|population|views|bytes|port|pid|row|rows|line|id|din|barcode|siret|siren|duns|hrb"
    r"|заказ\w*|накладн\w+|счёт|трек\w*|версия|артикул"
)
_SERIES = re.compile(
    r"(?<![^\W_])(?:resolution|latenc\w+|numbers|lottery|lotto\w*|values|prices|scores|sizes|dimensions|werte|zahlen)(?![^\W_])[^.!?;\n\[\]]*\Z"
)
_THING_EAST = "订单|訂單|单号|單號|快递|快遞|运单|注文|伝票|追跡|版本|固件|주문|송장|운송장"


def _before(words: str, east: str, connector: str) -> re.Pattern[str]:
    return re.compile(rf"(?:(?<![^\W_])(?:{words})|(?:{east})){connector}\Z", re.I)


_PHONE_BEFORE = _before(_PHONE, _PHONE_EAST, _CONNECTOR)
_THING_BEFORE = _before(_THING, _THING_EAST, r"(?![^\W\d_])(?:[^\d.!?;\n\[\]]|(?<=no)\.|(?<=nr)\.){0,16}")


def left_of(text: str, begin: int, place: int) -> str:
    """What stands before `place`, in small letters, as far as words count; nothing before `begin` or a marker does."""
    left = text[max(begin, place - REACH) : place]
    if "]" in left:
        left = _MARKER.split(left)[-1]
    return left.lower()


def says_phone(left: str) -> bool:
    """Whether the words before a number say that it is one to call."""
    return _PHONE_BEFORE.search(left) is not None


def says_thing(left: str) -> bool:
    """Whether they say that it numbers a thing: an order, an invoice, a book, a version."""
    return _THING_BEFORE.search(left) is not None or _SERIES.search(left) is not None or left.endswith("#")

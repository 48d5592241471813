"""The settings of the application."""

from softcart_assets.lines.model import Setting

SETTINGS = (
    Setting(
        "SOFTCART_INSPIRE_APP_SECRET",
        "Signs sessions and links, and encrypts second factors: at least 32 characters, the same "
        "in all processes. By default it is in a file in $SOFTCART_HOME, made at the first start. "
        "After a change, people with a second factor need a recovery code.",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_URL",
        "Where people find the application. Other machines reach it through a proxy with TLS.",
        "https://inspire.example.com",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_PROXIES",
        "How many proxies stand before the application. Each adds to X-Forwarded-For who asks it. "
        "Limits per address count the address of people then, and otherwise that of the proxy.",
        "1",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_SECOND_FACTOR",
        "Whether people must sign in with a code of an authenticator application: required, or "
        "optional. It is optional without the setting.",
        "required",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_LEAKED_PASSWORDS",
        "Passwords that nobody may choose: a file or a folder that Have I Been Pwned's downloader "
        "has written, or the address of its service. The service gets the first five signs of a "
        "password's SHA-1. Without it, common passwords of a package are refused.",
        "https://api.pwnedpasswords.com/range",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_SMTP_URL",
        "The mail server: smtps://, or smtp:// with STARTTLS. Write special characters in user and "
        "password with a percent sign. By default mails go to a receiver of this machine, whose "
        "page is http://127.0.0.1:8092.",
        "smtp://user:secret@mail.example.com:587",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_MAIL_FROM",
        "Who mails are from.",
        "Inspire <hello@inspire.example.com>",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_SMS",
        "How text messages go out: twilio or smpp. By default they go to the receiver, too.",
        "twilio",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_SMS_FROM",
        "The number that text messages are from, a messaging service of Twilio's, or a name.",
        "+15550100",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_TWILIO_URL",
        "Twilio's API, or that of a service that speaks as it does.",
        "https://api.twilio.com",
    ),
    Setting("SOFTCART_INSPIRE_APP_TWILIO_ACCOUNT", "The account at Twilio.", "AC0123456789"),
    Setting(
        "SOFTCART_INSPIRE_APP_TWILIO_TOKEN",
        "Its token. Twilio signs with it what it tells us, at <URL>/hooks/twilio/incoming.",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_SMPP_URL",
        "The SMPP server. per_second: how many messages a connection may send in a second. "
        "smpp:// without TLS needs is_private=yes, for a provider that is reached through a VPN.",
        "smpps://user:secret@smpp.example.com:3550?per_second=20",
    ),
    Setting(
        "SOFTCART_INSPIRE_APP_HOOK_TOKEN",
        "Whoever posts reports about mails to <URL>/hooks/mail shows it as a bearer token. Without "
        "it, there is no such address.",
    ),
)
